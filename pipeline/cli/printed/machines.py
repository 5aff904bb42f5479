"""What submit and doctor print in the end."""

from typing import Any

from pipeline.cli.printed.console import say
from pipeline.pages.wording import plural


def submitted(job_id: str, code: int) -> None:
    """How a job ended."""
    after = "; it waits for annotators: submit the same line again once they have answered" if code == 3 else ""
    say(f"job {job_id} ended with exit code {code}{after}")


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
        say(f"{row['file']}: {row['place']}: {row['kind']}, {plural(row['count'], 'time')}")
    for name in result["unreadable"]:
        say(f"{name}: cannot be read")
    short = result["num_too_short"]
    say(
        f"{result['num_files']} files, {result['num_terms']} identifiers looked for"
        + (f", {short} too short to be told from other words" if short else "")
        + ("; none was found" if result["ok"] else "")
    )
