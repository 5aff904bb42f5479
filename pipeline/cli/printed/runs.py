"""What run, pretrain and audit print in the end."""

import sys
from typing import Any

from pipeline.cli.printed.console import say, score
from pipeline.measures.holdout_record import num_holdouts
from pipeline.runtime.object_storage import addresses


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
        num_parts = 1
        for row in result["metrics"]:
            holdout = row.get("holdout") or {}
            parts = num_holdouts(row)
            mark, num_parts = " †" if parts != num_parts else "", parts
            table.add_row(
                str(row["round"]),
                str(row["num_expert"]),
                str(row["num_pseudo"]),
                score(row["pseudo_precision_estimated"]),
                score(row["pseudo_precision_certified"]),
                score(holdout.get("auroc")) + mark,
                score(holdout.get("accuracy")) + mark,
            )
        console.print(table)
        console.print(
            "* of the frozen release, by blind checks, at every look; – before its first check",
            highlight=False,
            style="dim",
        )
        if num_parts > 1:
            console.print(
                "† from here on of a holdout that has grown: no comparison with the rounds before; cxr-ssl status and "
                "the report compare on the same scans",
                highlight=False,
                style="dim",
            )
    for name in ("report", "out"):
        if result.get(name):
            console.print(addresses.shown(f"{name}: {result[name]}"), highlight=False, soft_wrap=True)


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


def pretrained(result: dict[str, Any]) -> None:
    """The backbone that was written."""
    card = result["card"]
    say(f"backbone: {result['backbone']}")
    say(f"  {card['architecture']}, {card['method']}, {card['epochs']} epochs on {card['num_scans']} scans")
    say(f"  use it: --set backbone.name={result['out']}")


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
