"""A run -> what it shows: evaluate, compare, status, report, release."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    RUN_HELP,
    JsonOption,
    RunArgument,
    SetOption,
    overrides_of,
    print_answer,
    run_folder,
    run_folder_with_status,
)
from pipeline.cli.printed import console
from pipeline.cli.printed import evidence as printed_evidence
from pipeline.cli.printed import standing as printed_standing
from pipeline.contracts.errors import InputError

commands = typer.Typer()


@commands.command()
def evaluate(
    folder: RunArgument,
    pool: Annotated[str | None, typer.Option(help="Another pool: an external test.")] = None,
    against: Annotated[
        Path | None,
        typer.Option(parser=run_folder, metavar="RUN", help="Another run on the same holdout: a paired comparison."),
    ] = None,
    prevalence: Annotated[
        list[float] | None, typer.Option(help="Deployment prevalence for PPV and NPV, 0..1; may be repeated.")
    ] = None,
    act_or_defer: Annotated[
        float | None,
        typer.Option(help="Error rate, such as 0.05, that answers the model gives alone must stay below; certified."),
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evidence of a finished run: its holdout in detail, another pool, or another run beside it."""
    from pipeline.commands import evaluate as commands_evaluate

    if pool is not None and against is not None:
        raise InputError("--pool and --against are two questions", fix="ask them one after the other")
    if act_or_defer is not None and (pool is not None or against is not None):
        raise InputError(
            "is certified on the run's own sealed holdout", where="--act-or-defer", fix="leave out --pool and --against"
        )
    options = overrides_of({"evaluate.prevalences": prevalence or None, "evaluate.promise_error": act_or_defer}, set_)
    print_answer(commands_evaluate.evaluate(folder, pool, against, options), as_json, printed_evidence.evaluation)


@commands.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            parser=run_folder,
            metavar="RUN...",
            help="Runs, the first one to compare with; or a folder of runs: their history.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Page to write, .html; runs/comparison-1.html, -2, … without.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs on one page: learning curves, paired differences, options, labels spent, audit verdicts."""
    from pipeline.commands.comparison import compare_runs

    print_answer(compare_runs.compare(runs, out), as_json, printed_evidence.comparison)


@commands.command()
def status(
    folder: Annotated[Path, typer.Argument(parser=run_folder_with_status, metavar="RUN", help=RUN_HELP)],
    as_json: JsonOption = False,
) -> None:
    """Say how far a run came, where its labels stand, and what it waits for."""
    from pipeline.commands import status as commands_status

    print_answer(commands_status.status(folder), as_json, printed_standing.status)


@commands.command()
def report(folder: RunArgument, as_json: JsonOption = False) -> None:
    """Write the report of a run again."""
    from pipeline.commands import run as commands_run

    result = commands_run.rebuild_report(folder)
    print_answer(result, as_json, lambda result: console.say(f"report: {result['report']}"))


@commands.command("release")
def write_release(
    folder: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="New .csv or .parquet file; the certificate lies beside it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the pseudo-labels others may use, with their certificate; refuses what blind checks do not certify."""
    from pipeline.commands import release as commands_release

    print_answer(commands_release.write_release(folder, out), as_json, printed_evidence.released)
