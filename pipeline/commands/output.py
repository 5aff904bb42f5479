"""What the commands print when they have done their work; one function a command."""

import sys
from typing import Any

import typer


def say(text: str) -> None:
    """One line or more on standard output."""
    typer.echo(text)


def complain(text: str, kind: str) -> None:
    """What went wrong, on standard error; `kind` stands before it."""
    colour = typer.colors.YELLOW if kind == "waiting" else typer.colors.RED
    head, _, rest = text.partition("\n")
    typer.secho(f"{kind}: {head}", fg=colour, err=True)
    if rest:
        typer.echo(rest.rstrip("\n"), err=True)


def pretrained(found: dict[str, Any]) -> None:
    """The backbone that was written."""
    card = found["card"]
    say(f"backbone: {found['backbone']}")
    say(f"  {card['architecture']}, {card['method']}, {card['epochs']} epochs on {card['num_scans']} scans")
    say(f"  use it: --set backbone.name={found['out']}")


def exported(found: dict[str, Any]) -> None:
    """The model that was written, and how it was checked."""
    for one in found.get("findings", {}).values():
        exported(one)
    if "findings" in found:
        return
    check = found["check"]
    say(f"{found['out']}: round {found['round']}, from scan to probability")
    say(
        f"  largest difference of a probability on {check['num_scans']} scans: ONNX against torch "
        f"{check['onnx_against_torch']:.1e}, ONNX against the run {check['onnx_against_run']:.1e}"
    )


def run(found: dict[str, Any]) -> None:
    """The rounds of a run as a table."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=110)
    if found["metrics"]:
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
        for row in found["metrics"]:
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
            "* of what the rounds before proposed, by blind checks; the next queue checks this round's",
            highlight=False,
            style="dim",
        )
    for name in ("report", "out"):
        if found.get(name):
            console.print(f"{name}: {found[name]}", highlight=False, soft_wrap=True)


def audit(found: dict[str, Any]) -> None:
    """The verdict and what led to it."""
    marks = {"ok": "ok   ", "warn": "warn ", "block": "BLOCK"}
    for check in found["checks"]:
        mark = marks[check["severity"]] if check["checked"] else "–    "
        say(f"{mark} {check['id']:<28} {check['message']}")
        if check["accepted"]:
            say(f"{'':<34} accepted: {check['accepted']}")
    say(f"verdict: {found['verdict']}")
    say(f"report: {found['report']}")


def evaluation(found: dict[str, Any]) -> None:
    """The evidence in short."""
    if "findings" in found:
        for finding, one in found["findings"].items():
            say(f"— {finding}")
            evaluation(one)
        say(f"all findings: {found['report']}")
        return
    if "metrics" in found:
        say(f"{found['a']} against {found['b']} on {found['num_scans']} scans of {found['num_groups']} groups")
        for row in found["metrics"]:
            say(
                f"{row['metric']:<18} {_number(row['a'])}  {_number(row['b'])}  difference {_number(row['difference'])}"
                f"{_between(row['ci95'])}, p {_number(row['p_value'])} (Holm {_number(row['p_holm'])})"
            )
    else:
        overall, scope = found["overall"], found["scope"]
        say(f"{scope['kind']}: {scope['num_scans']} scans of {scope['num_groups']} groups")
        say(f"the finding is {scope['positive']}" if scope["positive"] else "means over all classes")
        for name in ("auroc", "auprc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1"):
            say(f"{name:<18} {_number(overall[name])}{_between(overall[f'{name}_ci95'])}")
        if "audit" in found:
            known = found["audit"]
            say(
                f"left out because the run knows them: {known['num_left_out']} scans "
                f"({known['num_copies']} copies, {known['num_shared_patients']} patients); "
                f"of other classes: {known['num_other_classes']}; the pool's own audit: {known['verdict']}"
            )
    say(f"report: {found['report']}")


def _between(interval: list[float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"


def plan(found: dict[str, Any]) -> None:
    """What a run would do."""
    for row in found["stages"]:
        counts = ", ".join(f"{key} {value}" for key, value in row["counts"].items())
        say(
            f"{row['stage']:<11} {'reuse' if row['reuse'] else 'check' if row['always'] else 'run':<6} {row['purpose']}"
            + (f" (last: {counts})" if counts else "")
        )
    say(f"pool: {found['num_scans']} scans, {found['num_labelled']} labelled; out: {found['out']}")


def exported_queue(found: dict[str, Any]) -> None:
    """The files that were written."""
    for name, paths in found["files"].items():
        say(f"{name or 'anybody'}: {found['num_scans'][name]} scans of round {found['round']}")
        for path in paths:
            say(f"  {path}")
    say(f"then: cxr-ssl labels import {found['out']} FILE")


def imported(found: dict[str, Any]) -> None:
    """What came in."""
    for mistake in found["mistakes"]:
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
    say(", ".join(f"{found[name]} {text}" for name, text, always in parts if always or found[name]))
    if found["batch"]:
        say(f"batch {found['batch']}; take it back with: cxr-ssl labels undo {found['out']} {found['batch']}")


def log(found: dict[str, Any]) -> None:
    """The imports so far."""
    for row in found["batches"]:
        what = ", ".join(row["files"]) or row["kind"]
        state = f"undone {row['undone']}" if row["undone"] else f"{row['num_standing']} of {row['num_answers']} stand"
        say(
            f"{row['batch']:>4}  {row['time']}  {row['kind']:<7} {', '.join(row['annotators']) or '–'}: {what}; {state}"
        )
    if not found["batches"]:
        say("no labels have come in yet")


def status(found: dict[str, Any]) -> None:
    """How far a run came."""
    say(f"state: {found['state']}" + (f", stage {found['stage']}" if found.get("stage") else ""))
    say(f"rounds finished: {found['rounds_finished']} of {found['rounds']}; expert labels: {found['num_expert']}")
    told = found["labels"]
    if told["num_asked"]:
        say(f"round {told['round']}: {told['num_asked']} scans asked, {told['num_asked'] - told['num_open']} answered")
    for row in told["annotators"]:
        pace = "" if row["seconds_per_scan"] is None else f", {row['seconds_per_scan']:g} s a scan"
        aside = "".join(f", {row[f'num_{kind}']} {kind}" for kind in ("rejected", "unsure") if row[f"num_{kind}"])
        say(f"  {row['annotator']}: {row['num_answers']} answers, {row['num_round']} of this round{aside}{pace}")
    agreement(told["agreement"])
    for finding, one in told.get("agreement_of", {}).items():
        if one is not None and (one["share"]["num_scans"] or one["intra"]):
            say(f"{finding}:")
            agreement(one)
    if found.get("waiting"):
        say(found["waiting"])


def agreement(found: dict[str, Any] | None) -> None:
    """How far annotators agree."""
    if found is None:
        return
    if found["share"]["num_scans"]:
        measures = (("agree on", "share"), ("Fleiss' kappa", "fleiss"), ("Krippendorff's alpha", "krippendorff"))
        shown = [f"{text} {_number(found[key]['value'])}{_between(found[key]['ci95'])}" for text, key in measures]
        say(f"{found['share']['num_scans']} scans read twice or more: {', '.join(shown)}")
    for row in found["intra"]:
        say(f"  {row['annotator']} read again: {_number(row['share']['value'])}{_between(row['share']['ci95'])}")
    for row in found["suspects"]:
        say(
            f"  {row['annotator']} stands out: of {row['num_scans']} scans agrees with others on "
            f"{row['agreement']:.3f}, they with each other on {row['others']:.3f}"
        )


def doctor(found: dict[str, Any]) -> None:
    """What this machine has."""
    for row in found["checks"]:
        say(
            f"{'ok ' if row['ok'] else 'NO '} {row['check']:<17} {row['found']}"
            + (f"; {row['advice']}" if row["advice"] else "")
        )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
