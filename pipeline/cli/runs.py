"""A pool -> a run, or the first stages of one: run, embed, pretrain, audit."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    AcceptOption,
    BecauseOption,
    ConfigOption,
    JsonOption,
    OutOption,
    OverwriteOption,
    PoolArgument,
    QuietOption,
    SetOption,
    StrictOption,
    accepted_checks,
    overrides_of,
    print_answer,
    run_folder,
)
from pipeline.cli.printed import console
from pipeline.cli.printed import runs as printed
from pipeline.contracts.errors import AuditBlocked

commands = typer.Typer()


@commands.command()
def run(
    config: ConfigOption = None,
    pool: Annotated[str | None, typer.Option(help="Folder, manifest, nih:FOLDER, medmnist:NAME or phantom:.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Number of rounds.")] = None,
    budget: Annotated[int | None, typer.Option(help="Expert labels a round.")] = None,
    out: OutOption = None,
    seed: Annotated[int | None, typer.Option(help="Root of all randomness.")] = None,
    set_: SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out; start it if there is none.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again; a run people labelled is moved aside.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show stages, counts and what would be reused.")] = False,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Hide the training labels; reveal what the queue asks.")
    ] = False,
    grow: Annotated[
        list[str] | None,
        typer.Option("--grow", help="A pool that joins the run in --out; needs --resume; may be repeated."),
    ] = None,
    strict: StrictOption = False,
    accept: AcceptOption = None,
    because: BecauseOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the whole loop: embed, cluster, queue, label, train, pseudo-label, evaluate, report.

    Without --config and --pool it runs on phantom chest X-rays, offline.
    """
    from pipeline.commands import request as commands_request
    from pipeline.commands import run as commands_run

    options = {
        "pool.uri": pool,
        "rounds.num": rounds,
        "queue.budget": budget,
        "seed": seed,
        "oracle": True if oracle else None,
        "audit.strict": True if strict else None,
    }
    request = commands_request.Request(
        config_file=config,
        overrides=overrides_of(options, set_),
        out=out,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        accept=accepted_checks(accept, because),
        grow=tuple(grow or ()),
    )
    if dry_run:
        print_answer(commands_run.dry_run(request), as_json, printed.plan)
        return
    print_answer(commands_run.execute(request), as_json, printed.run)


@commands.command()
def embed(
    pool: PoolArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=run_folder, metavar="PATH|URL", help="Folder for manifest.parquet and embeddings.npy."
        ),
    ],
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in --out; only new scans are embedded.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Embed a pool; scans the store knows already are not computed again."""
    from pipeline.commands import request as commands_request
    from pipeline.commands import run as commands_run

    request = commands_request.Request(
        config_file=config,
        overrides=overrides_of({"pool.uri": pool}, set_),
        out=out,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        stages=("manifest", "embed"),
    )
    print_answer(commands_run.execute(request), as_json, printed.run)


@commands.command()
def pretrain(
    pool: PoolArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=run_folder,
            metavar="PATH|URL",
            help="Folder for the run; the backbone goes to OUT/pretrain.",
        ),
    ],
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in --out from the last epoch.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a backbone on a pool's scans without their labels, e.g. --set pretrain.epochs=50; see `pretrain` in config.

    Use it with `--set backbone.name=OUT` in every other command.
    """
    from pipeline.commands import pretrain as commands_pretrain
    from pipeline.commands import request as commands_request

    request = commands_request.Request(
        config_file=config,
        overrides=overrides_of({"pool.uri": pool}, set_),
        out=out,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
    )
    print_answer(commands_pretrain.pretrain_pool(request), as_json, printed.pretrained)


@commands.command()
def audit(
    pool: Annotated[
        str,
        typer.Argument(help="Folder, manifest, nih:FOLDER, medmnist:NAME, phantom:, or a run directory."),
    ],
    config: ConfigOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=run_folder, metavar="PATH|URL", help="Folder for audit.json and its page."),
    ] = None,
    strict: StrictOption = False,
    accept: AcceptOption = None,
    because: BecauseOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Audit a pool or split: leaks, duplicates, confounding, shortcuts, too little data. Exit code 4: it blocks."""
    from pipeline.audit.stage import blocked_message
    from pipeline.commands import audit as commands_audit
    from pipeline.commands import request as commands_request

    options = {"pool.uri": pool, "audit.strict": True if strict else None}
    request = commands_request.Request(
        config_file=config,
        overrides=overrides_of(options, set_),
        out=out,
        quiet=quiet,
        accept=accepted_checks(accept, because),
    )
    result = commands_audit.audit_pool(request)
    print_answer(result, as_json, printed.audit)
    if result["blocking"]:
        console.complain(blocked_message(result), "blocked")
        raise typer.Exit(AuditBlocked.exit_code)
