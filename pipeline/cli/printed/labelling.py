"""What the commands of queues and labels print in the end."""

from typing import Any

from pipeline.cli.printed.console import complain, say


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
