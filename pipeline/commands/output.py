"""What the commands print when they have done their work; one function a command."""

import sys
from typing import Any

import typer

from pipeline.runtime.object_storage import addresses
from pipeline.runtime.watching import pace

MAX_ANSWERS = 8  # of a prediction that are counted on the screen


def say(text: str) -> None:
    """One line or more on standard output."""
    typer.echo(addresses.shown(text))


def complain(text: str, kind: str) -> None:
    """What went wrong, on standard error; `kind` stands before it."""
    colour = typer.colors.YELLOW if kind == "waiting" else typer.colors.RED
    head, _, rest = addresses.shown(text).partition("\n")
    typer.secho(f"{kind}: {head}", fg=colour, err=True)
    if rest:
        typer.echo(rest.rstrip("\n"), err=True)


def pass_on(text: str) -> None:
    """A piece of another program's log, on standard error."""
    typer.echo(text, err=True, nl=False)


def submitted(job_id: str, code: int) -> None:
    """How a job ended."""
    after = "; it waits for annotators: submit the same line again once they have answered" if code == 3 else ""
    say(f"job {job_id} ended with exit code {code}{after}")


def pretrained(result: dict[str, Any]) -> None:
    """The backbone that was written."""
    card = result["card"]
    say(f"backbone: {result['backbone']}")
    say(f"  {card['architecture']}, {card['method']}, {card['epochs']} epochs on {card['num_scans']} scans")
    say(f"  use it: --set backbone.name={result['out']}")


def predicted(result: dict[str, Any]) -> None:
    """What the predictions have come to."""
    say(
        f"{result['out']}: {result['num_scans']} scans, by the model of round {result['round']} ({result['seconds']} s)"
    )
    for answer, num in list(result["answers"].items())[:MAX_ANSWERS]:
        say(f"  {num:>8}  {answer}")
    if result["outside_measured_on"] is None:
        say("  whether a scan is outside what the model knows cannot be said: too few held-out scans for that rate")
    else:
        say(f"  {result['num_outside']:>8}  outside what the model knows")
    say(f"  {result['num_unusable']:>8}  unusable")
    for side, num in result["num_in_run"].items():
        say(f"  {num:>8}  are files of the run itself ({side})")
    if result["heat_maps"] is not None:
        say(f"{result['heat_maps']['out']}: heat maps of {', '.join(result['heat_maps']['findings'])}")
    if result["dicom"] is not None:
        say(f"{result['dicom']}: structured reports, not for diagnostic use")


def watched(result: dict[str, Any]) -> None:
    """What a watcher has done until it was stopped."""
    say(f"{result['out']}: {result['num_predicted']} scans predicted, {result['num_quarantined']} in quarantine")


def monitored(result: dict[str, Any]) -> None:
    """What has moved, and what it comes to."""
    batch = result["batch"]
    say(f"{result['verdict']}: {result['why']} ({batch['num_compared']} scans of {batch['num_patients']} patients)")
    if result["cause"] is not None:
        say(f"  most probable cause: {result['cause']['name']}. {result['cause']['words']}")
        say(f"  what to do: {result['cause']['fix']}")
    if result["next"]:
        say(f"  to learn from these scans: {result['next']}")
    for name, estimate in result["accuracy"].items():
        of = "of the answers" if name == "answer" else f"of {name}"
        if estimate["value"] is None:
            say(f"  accuracy {of} is not estimated: {estimate['refused']}")
        else:
            say(
                f"  accuracy {of}, estimated: {estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
            )
    for line in result["cannot_tell"]:
        say(f"  cannot be told: {line}")
    say(f"  batch {result['num_batches']}: {result['page']}")


def exported(result: dict[str, Any]) -> None:
    """The model that was written, and how it was checked."""
    for part in result.get("findings", {}).values():
        exported(part)
    if "findings" in result:
        return
    check = result["check"]
    say(f"{result['out']}: round {result['round']}, from scan to probability")
    say(
        f"  largest difference of a probability on {check['num_scans']} scans: ONNX against torch "
        f"{check['onnx_against_torch']:.1e}, ONNX against the run {check['onnx_against_run']:.1e}"
    )


def run(result: dict[str, Any]) -> None:
    """The rounds of a run as a table."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=110)
    if result["metrics"]:
        table = Table(
            "round",
            "expert labels",
            "pseudo-labels",
            "estimated",
            "certified ≥ *",
            "AUROC",
            "accuracy",
            title_justify="left",
        )
        for row in result["metrics"]:
            holdout = row.get("holdout") or {}
            table.add_row(
                str(row["round"]),
                str(row["num_expert"]),
                str(row["num_pseudo"]),
                _number(row["pseudo_precision_estimated"]),
                _number(row["pseudo_precision_certified"]),
                _number(holdout.get("auroc")),
                _number(holdout.get("accuracy")),
            )
        console.print(table)
        console.print(
            "* of the frozen release, by blind checks, at every look; – before its first check",
            highlight=False,
            style="dim",
        )
    for name in ("report", "out"):
        if result.get(name):
            console.print(addresses.shown(f"{name}: {result[name]}"), highlight=False, soft_wrap=True)


def audit(result: dict[str, Any]) -> None:
    """The verdict and what led to it."""
    marks = {"ok": "ok   ", "warn": "warn ", "block": "BLOCK"}
    for check in result["checks"]:
        mark = marks[check["severity"]] if check["checked"] else "–    "
        say(f"{mark} {check['id']:<28} {check['message']}")
        if check["accepted"]:
            say(f"{'':<34} accepted: {check['accepted']}")
    say(f"verdict: {result['verdict']}")
    say(f"report: {result['report']}")


def _say_alone(certified: dict[str, Any]) -> None:
    """What the model may decide alone."""
    from pipeline.report.sections.act_or_defer import missing  # here, for it takes long to import

    say(f"promised error below {certified['promised_error']:g}, at {certified['confidence']:.0%} confidence a side:")
    for finding, row in certified["findings"].items():
        say(
            f"{finding}: decides {row['share_alone']:.0%} alone ({row['share_no']:.0%} no, "
            f"{row['share_yes']:.0%} yes), asks a person about {row['share_ask']:.0%}"
        )
        for answer, side in row["sides"].items():
            if not side["certified"]:
                say(f"  never {answer} alone: {missing(side)}")


def evaluation(result: dict[str, Any]) -> None:
    """The evidence in short."""
    if "findings" in result:
        for finding, part in result["findings"].items():
            say(f"— {finding}")
            evaluation(part)
        say(f"all findings: {result['report']}")
        return
    if "metrics" in result:
        say(f"{result['a']} against {result['b']} on {result['num_scans']} scans of {result['num_groups']} groups")
        for row in result["metrics"]:
            say(
                f"{row['metric']:<18} {_number(row['a'])}  {_number(row['b'])}  difference {_number(row['difference'])}"
                f"{_between(row['ci95'])}, p {_number(row['p_value'])} (Holm {_number(row['p_holm'])})"
            )
    else:
        overall, scope = result["overall"], result["scope"]
        say(f"{scope['kind']}: {scope['num_scans']} scans of {scope['num_groups']} groups")
        say(f"the finding is {scope['positive']}" if scope["positive"] else "means over all classes")
        for name in ("auroc", "auprc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1"):
            say(f"{name:<18} {_number(overall[name])}{_between(overall[f'{name}_ci95'])}")
        if "act_or_defer" in result:
            _say_alone(result["act_or_defer"])
        if "audit" in result:
            known = result["audit"]
            say(
                f"left out because the run knows them: {known['num_left_out']} scans "
                f"({known['num_copies']} copies, {known['num_shared_patients']} patients); "
                f"of other classes: {known['num_other_classes']}; the pool's own audit: {known['verdict']}"
            )
    say(f"report: {result['report']}")


def comparison(result: dict[str, Any]) -> None:
    """Runs side by side, and what their differences show."""
    for run in result["runs"]:
        scores = run["scores"] or {}
        say(
            f"{run['run']}: {run['rounds_finished']} rounds, {run['num_expert'] or 0} expert labels, AUROC "
            f"{_number(scores.get('auroc'))}{_between(scores.get('auroc_ci95'))}, audit {run['verdict'] or '–'}"
        )
        if run["reason"] or run["note"]:
            say(f"  {run['reason'] or run['note']}")
    for pair in result["pairs"]:
        of = f", {pair['finding']}" if pair["finding"] else ""
        row = next(row for row in pair["metrics"] if row["metric"] == "auroc")
        say(
            f"{pair['b']} less {pair['a']}{of}, {pair['num_scans']} scans: AUROC {_number(row['difference'])}"
            f"{_between(row['ci95'])}, p {_number(row['p_value'])} (Holm {_number(row['p_holm'])})"
        )
    for row in result["not_paired"]:
        of = f", {row['finding']}" if row["finding"] else ""
        say(f"not paired: {row['a']} and {row['b']}{of}: {row['reason']}")
    say(f"{len(result['options'])} options differ; page: {result['page']}")


def _between(interval: list[float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"


def plan(result: dict[str, Any]) -> None:
    """What a run would do."""
    for row in result["stages"]:
        counts = ", ".join(f"{key} {value}" for key, value in row["counts"].items())
        say(
            f"{row['stage']:<11} {'reuse' if row['reuse'] else 'check' if row['always'] else 'run':<6} {row['purpose']}"
            + (f" (last: {counts})" if counts else "")
        )
    say(f"pool: {result['num_scans']} scans, {result['num_labelled']} labelled; out: {result['out']}")
    for row in result.get("grow", ()):
        say(f"would join: {row['pool']}, {row['num_scans']} scans; those the run has already are not taken again")


def exported_queue(result: dict[str, Any]) -> None:
    """The files that were written."""
    for name, paths in result["files"].items():
        say(f"{name or 'anybody'}: {result['num_scans'][name]} scans of round {result['round']}")
        for path in paths:
            say(f"  {path}")
    say(f"then: cxr-ssl labels import {result['out']} FILE")


def imported(result: dict[str, Any]) -> None:
    """What came in."""
    for mistake in result["mistakes"]:
        complain(mistake, "left out")
    parts = (
        ("num_new", "new answers", True),
        ("num_changed", "of them corrections", False),
        ("num_known", "known already", True),
        ("num_older", "older than what is known", False),
        ("num_blank", "rows blank", True),
        ("num_skipped", "skipped by the annotator", False),
        ("num_mistakes", "rows left out", False),
        ("num_files_known", "files imported before", False),
        ("num_disagreements", "scans in dispute", True),
    )
    say(", ".join(f"{result[name]} {text}" for name, text, always in parts if always or result[name]))
    if result["batch"]:
        say(f"batch {result['batch']}; take it back with: cxr-ssl labels undo {result['out']} {result['batch']}")


def log(result: dict[str, Any]) -> None:
    """The imports so far."""
    for row in result["batches"]:
        what = ", ".join(row["files"]) or row["kind"]
        state = f"undone {row['undone']}" if row["undone"] else f"{row['num_standing']} of {row['num_answers']} stand"
        say(
            f"{row['batch']:>4}  {row['time']}  {row['kind']:<7} {', '.join(row['annotators']) or '–'}: {what}; {state}"
        )
    if not result["batches"]:
        say("no labels have come in yet")


def reports(result: dict[str, Any]) -> None:
    """What a pool's radiology reports say: counts alone."""
    num_told = f"{result['num_scans_with_report']} of {result['num_scans']}"
    say(f"{result['num_reports']} reports; {num_told} scans have a report, or a label that was read from one")
    for reason, number in result["reasons"].items():
        if number:
            say(f"  {number} {reason}")
    for source, findings in result["says"].items():
        width = max([len(source), *map(len, findings)])
        say(f"{source:<{width}}  present  uncertain  absent  not mentioned")
        for finding, n in findings.items():
            cells = f"{n['present']:>7}  {n['uncertain']:>9}  {n['absent']:>6}  {n['not mentioned']:>13}"
            say(f"{finding:<{width}}  {cells}")
    if result["unknown_findings"]:
        say(f"the rules know no {', '.join(result['unknown_findings'])}; add it to a rules file of your own")
    say("nothing of this is used before experts have checked it blind; see docs/how-to/reports.md")


def _reports_standing(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        errors = f"{row['num_errors']} errors in {row['num_checked']} blind checks"
        say(f"reports say {row['class_name']} ({row['says']}, {row['source']}): {errors}; {row['why']}")


def status(result: dict[str, Any]) -> None:
    """How far a run came."""
    say(f"state: {result['state']}" + (f", stage {result['stage']}" if result.get("stage") else ""))
    progress(result["progress"])
    say(f"rounds finished: {result['rounds_finished']} of {result['rounds']}; expert labels: {result['num_expert']}")
    labels = result["labels"]
    if labels["num_asked"]:
        num_answered = labels["num_asked"] - labels["num_open"]
        say(f"round {labels['round']}: {labels['num_asked']} scans asked, {num_answered} answered")
    for row in labels["annotators"]:
        pace = "" if row["seconds_per_scan"] is None else f", {row['seconds_per_scan']:g} s a scan"
        if row["too_fast"]:
            pace += ", faster than a person can read"
        aside = "".join(f", {row[f'num_{kind}']} {kind}" for kind in ("rejected", "unsure") if row[f"num_{kind}"])
        say(f"  {row['annotator']}: {row['num_answers']} answers, {row['num_round']} of this round{aside}{pace}")
    agreement(labels["agreement"])
    for finding, part in labels.get("agreement_of", {}).items():
        if part is not None and (part["share"]["num_scans"] or part["intra"]):
            say(f"{finding}:")
            agreement(part)
    labels_by_class(result["labels_by_class"])
    growth(result["growth"])
    when_to_stop(result["stop"])
    _reports_standing(result["reports"])
    release_standing(result["release"])
    if result.get("waiting"):
        say(result["waiting"])


def growth(result: dict[str, Any] | None) -> None:
    """Which pools joined, and the model before against the model now."""
    if result is None:
        return
    for part in result["parts"]:
        say(
            f"part {part['part']} joined after round {part['after_round']}: {part['num_new']} new scans of "
            f"{part['pool']}, {part['num_labels']} answered"
        )
    for row in result["compared"]:
        of_finding = f" of {row['finding']}" if "finding" in row else ""
        say(
            f"  AUROC{of_finding}, {row['which']} holdout: "
            f"{_number(row['before'])} before, {_number(row['now'])} now; "
            f"difference {_number(row['difference'])}{_between(row['difference_ci95'])}"
        )


def progress(entry: dict[str, Any] | None) -> None:
    """What the run does at the moment, by its own clock."""
    if entry is None:
        return
    rate = "" if entry["per_second"] is None else f", {entry['per_second']:g} a second"
    left = pace.words(None if entry["seconds_left"] is None else pace.Remaining(*entry["seconds_left"]))
    failed = f", {entry['num_failed']} failed" if entry["num_failed"] else ""
    say(f"{entry['what']}: {entry['done']} of {entry['total']}{rate}{f', {left}' if left else ''}{failed}")
    say(f"  said by process {entry['process']} on {entry['host']} at {entry['updated']}")


def labels_by_class(result: dict[str, Any]) -> None:
    """Expert labels of each class, and a warning for each class that has too few; of independent findings each."""
    if "now" not in result:
        for finding, part in result.items():
            say(f"{finding}:")
            labels_by_class(part)
        return
    if not result["now"]:
        return
    told = ", ".join(f"{finding} {num}" for finding, num in result["now"].items())
    say(f"labels by class, of training scans: {told}")
    for warning in result["warnings"] if any(result["now"].values()) else ():  # before the first label all are few
        say(f"  {warning}")


def when_to_stop(result: dict[str, Any] | None) -> None:
    """What further labels would buy, and whether the predictions still change."""
    if result is None:
        return
    for finding, advised in result.get("findings", {None: result}).items():
        head = "further labels" if finding is None else f"further labels, {finding}"
        say(f"{head}: {'consider stopping' if advised['stop'] else 'go on'}, after round {advised['round']}")
        for name, score in advised["forecast"]["scores"].items() if finding is None else ():
            shown = (f"+{g['labels']}: {g['mean']:+.3f} ({g['low']:+.3f} to {g['high']:+.3f})" for g in score["gains"])
            say(f"  {name.replace('_', ' ').replace('auroc', 'AUROC')} {', '.join(shown)}")
        for why in advised["why"]:
            say(f"  {why}")


def release_standing(result: dict[str, Any]) -> None:
    """Where the release stands, and what checks it still needs; of independent findings each, and all together."""
    release = result["release"]
    if result.get("together"):
        for finding, part in result["findings"].items():
            say(f"{finding}:")
            release_standing(part)
        _together(result["together"])
        return
    if release is None:
        say(f"release: none frozen; {result['why']}")
        steps = ", ".join(f"{n} with {errors}" for errors, n in enumerate(result["plan"]))
        say(f"  a promise of {result['promise']:g} takes so many checks with so many errors: {steps}")
        for row in result["can_promise"]:
            say(
                f"  {row['num_labels']} labels, {row['num_checks']} of them checks, can certify {row['clean']:.3f} "
                f"without an error, {row['one_error']:.3f} with one, {row['two_errors']:.3f} with two"
            )
        return
    say(
        f"release {release['number']}, frozen after round {release['round']}: {release['num_scans']} scans, "
        f"{release['state']}"
    )
    for tier in release["tiers"]:
        needed = tier["checks_needed"]
        more = "can no longer be certified" if needed is None else f"{needed} further clean checks would certify it"
        verdict = "certified" if tier["holds"] else more if needed != 0 else "waits for the tier before"
        say(
            f"  {tier['tier']} ({tier['num_scans']} scans): {tier['num_errors']} errors in {tier['num_checked']} "
            f"checks, precision at least {tier['bound']:.3f}; {release['promise']:g} {verdict}"
        )


def _together(result: dict[str, Any]) -> None:
    """What holds of the releases of several findings at once."""
    bounds = ", ".join(f"{finding} {row['bound']:.3f}" for finding, row in result["findings"].items())
    say(
        f"each certificate holds by itself; all {result['num_releases']} at once with {result['confidence']:.0%} "
        f"confidence ({result['method']}) only these precisions: {bounds}"
    )


def released(result: dict[str, Any]) -> None:
    """The release that was written."""
    certificate = result["certificate"]
    if "findings" in certificate:
        say(f"{result['out']}: {certificate['num_released']} pseudo-labels")
        for finding, part in certificate["findings"].items():
            say(
                f"  {finding}: {part['num_released']} pseudo-labels, tier {part['certified_tier']}, precision at least "
                f"{part['bound']:.4f} at {part['confidence']:.0%} confidence, valid at every look"
            )
        for finding, why in certificate["not_certified"].items():
            say(f"  {finding} is left out: {why}")
        _together(certificate["together"])
        say(f"  certificate: {result['certificate_file']}")
        return
    say(f"{result['out']}: {certificate['num_released']} pseudo-labels, tier {certificate['certified_tier']}")
    say(
        f"  precision at least {certificate['bound']:.4f} at {certificate['confidence']:.0%} confidence, valid at "
        f"every look; release {certificate['number']} of {certificate['num_releases']}"
    )
    say(f"  certificate: {result['certificate_file']}")


def agreement(result: dict[str, Any] | None) -> None:
    """How far annotators agree."""
    if result is None:
        return
    if result["share"]["num_scans"]:
        measures = (("agree on", "share"), ("Fleiss' kappa", "fleiss"), ("Krippendorff's alpha", "krippendorff"))
        shown = [f"{text} {_number(result[key]['value'])}{_between(result[key]['ci95'])}" for text, key in measures]
        say(f"{result['share']['num_scans']} scans read twice or more: {', '.join(shown)}")
    for row in result["intra"]:
        say(f"  {row['annotator']} read again: {_number(row['share']['value'])}{_between(row['share']['ci95'])}")
    for row in result["suspects"]:
        say(
            f"  {row['annotator']} stands out: of {row['num_scans']} scans agrees with others on "
            f"{row['agreement']:.3f}, they with each other on {row['others']:.3f}"
        )
    for row in (row for row in result["overruled"] if row["stands_out"]):
        shares = f"{row['share']:.3f} of {row['num_scans']} scans, against their other readers on {row['others']:.3f}"
        say(f"  {row['annotator']} stands out: disputes were decided against that reader on {shares}")


def doctor(result: dict[str, Any]) -> None:
    """What this machine has."""
    for row in result["checks"]:
        say(
            f"{'ok ' if row['ok'] else 'NO '} {row['check']:<17} {row['found']}"
            + (f"; {row['advice']}" if row["advice"] else "")
        )


def privacy(result: dict[str, Any]) -> None:
    """Where a run names patients; the identifiers themselves are not shown."""
    for row in result["found"]:
        say(f"{row['file']}: {row['place']}: {row['kind']}, {row['count']} times")
    for name in result["unreadable"]:
        say(f"{name}: cannot be read")
    short = result["num_too_short"]
    say(
        f"{result['num_files']} files, {result['num_terms']} identifiers looked for"
        + (f", {short} too short to be told from other words" if short else "")
        + ("; none was found" if result["ok"] else "")
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
