"""Where work runs: submit to a cluster, doctor."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    JsonOption,
    print_answer,
    run_folder,
)
from pipeline.cli.printed import console
from pipeline.cli.printed import machines as printed

commands = typer.Typer()


@commands.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def submit(
    context: typer.Context,
    go: Annotated[bool, typer.Option("--go", help="Send it, follow its log and end with its exit code.")] = False,
    address: Annotated[str, typer.Option(help="Of the cluster's dashboard.")] = "http://127.0.0.1:8265",
    working_dir: Annotated[Path, typer.Option(help="Folder that is sent along: the code, or your files.")] = Path(),
    env: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for the job's environment; may be repeated.")
    ] = None,
) -> None:
    """Run a command as a job of a Ray cluster: cxr-ssl submit run --config FILE --out DIR. Without --go: show the line.

    For run, embed, pretrain, audit and evaluate. A run that waited for annotators (exit code 3) goes on when the same
    line is submitted again.
    """
    from pipeline.commands.cluster import client, submission

    job = submission.prepare(context.args, working_dir.absolute(), env or [])
    if not go:
        console.say(job.line(address))
        return
    job_id, code = client.submit(job, address, console.pass_on)
    printed.submitted(job_id, code)
    raise typer.Exit(code)


@commands.command()
def doctor(
    privacy: Annotated[
        Path | None,
        typer.Option(
            parser=run_folder, metavar="RUN", help="A run: look for identifiers of its pool in all that it wrote."
        ),
    ] = None,
    terms: Annotated[Path | None, typer.Option(help="With --privacy: further terms to look for, one a line.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what this machine has and what a run would use; with --privacy, whether a run names patients."""
    from pipeline.commands import doctor as examiner

    if privacy is not None:
        from pipeline.commands.privacy.run_scan import scan

        result = scan(privacy, terms)
        print_answer(result, as_json, printed.privacy)
        raise typer.Exit(0 if result["ok"] else 1)
    rows = examiner.examine()
    print_answer({"ok": all(row["ok"] for row in rows), "checks": rows}, as_json, printed.doctor)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)
