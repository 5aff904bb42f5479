"""What status prints: how far a run came, its labels, its release."""

from typing import Any

from pipeline.cli.printed.console import between, say, score
from pipeline.cli.printed.evidence import together
from pipeline.pages.wording import by_kind
from pipeline.runtime.watching import pace

HOLDOUTS = {"old": "old holdout", "new": "new holdout", "together": "both holdouts together"}


def status(result: dict[str, Any]) -> None:
    """How far a run came."""
    say(f"state: {result['state']}" + (f", stage {result['stage']}" if result.get("stage") else ""))
    progress(result["progress"])
    say(
        f"rounds finished: {result['rounds_finished']} of {result['rounds']}; expert labels: {result['num_expert']}"
        f"{_training_share(result)}"
    )
    _audit(result["audit"])
    labels = result["labels"]
    if labels["num_asked"]:
        num_answered = labels["num_asked"] - labels["num_open"]
        why = by_kind(labels["asked_by_kind"])
        say(f"round {labels['round']}: {labels['num_asked']} scans asked ({why}), {num_answered} answered")
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


def _audit(result: dict[str, Any] | None) -> None:
    """The audit's verdict, and what blocks: with it the numbers are no evidence."""
    if result is None:
        return
    blocks = f", {', '.join(result['blocks'])} {'block' if len(result['blocks']) > 1 else 'blocks'}"
    accepted = "; somebody let the work go on" if result["accepted"] else ""
    say(f"audit: {result['verdict']}{blocks if result['blocks'] else ''}{accepted}")


def _training_share(result: dict[str, Any]) -> str:
    """How many of the expert labels train, where that is not all of them: those of the sealed holdout do not."""
    by_class = result["labels_by_class"]
    num_train = sum(by_class["now"].values()) if "now" in by_class else result["num_expert"]
    return f", {num_train} of them name a class of a training scan" if num_train < result["num_expert"] else ""


def _reports_standing(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        errors = f"{row['num_errors']} errors in {row['num_checked']} blind checks"
        say(f"reports say {row['class_name']} ({row['says']}, {row['source']}): {errors}; {row['why']}")


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
            f"  AUROC{of_finding}, {HOLDOUTS[row['which']]}: "
            f"{score(row['before'])} before, {score(row['now'])} now; "
            f"difference {score(row['difference'])}{between(row['difference_ci95'])}"
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
        for name, forecast in advised["forecast"]["scores"].items() if finding is None else ():
            shown = (
                f"+{g['labels']}: {g['mean']:+.3f} ({g['low']:+.3f} to {g['high']:+.3f})" for g in forecast["gains"]
            )
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
        together(result["together"])
        return
    if release is None:
        say(f"release: none frozen; {result['why']}")
        steps = ", ".join(f"{n} with {errors}" for errors, n in enumerate(result["plan"]))
        say(f"  a promise of {result['promise']:g} takes at most so many checks with so many errors: {steps}")
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
        if tier.get("withdrawn"):
            verdict = "was certified, and errors found later have taken that back"
        say(
            f"  {tier['tier']} ({tier['num_scans']} scans): {tier['num_errors']} errors in {tier['num_checked']} "
            f"checks, precision at least {tier['bound']:.3f}; {release['promise']:g} {verdict}"
        )


def agreement(result: dict[str, Any] | None) -> None:
    """How far annotators agree."""
    if result is None:
        return
    if result["share"]["num_scans"]:
        measures = (("agree on", "share"), ("Fleiss' kappa", "fleiss"), ("Krippendorff's alpha", "krippendorff"))
        shown = [f"{text} {score(result[key]['value'])}{between(result[key]['ci95'])}" for text, key in measures]
        say(f"{result['share']['num_scans']} scans read twice or more: {', '.join(shown)}")
    for row in result["intra"]:
        say(f"  {row['annotator']} read again: {score(row['share']['value'])}{between(row['share']['ci95'])}")
    for row in result["suspects"]:
        say(
            f"  {row['annotator']} stands out: of {row['num_scans']} scans agrees with others on "
            f"{row['agreement']:.3f}, they with each other on {row['others']:.3f}"
        )
    for row in (row for row in result["overruled"] if row["stands_out"]):
        shares = f"{row['share']:.3f} of {row['num_scans']} scans, against their other readers on {row['others']:.3f}"
        say(f"  {row['annotator']} stands out: disputes were decided against that reader on {shares}")
