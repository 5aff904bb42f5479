"""Options that several commands share, and what is made of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.printed import console


def run_folder(text: str) -> Path:
    """The folder of a run that was named by its folder or its URL; see `session.folder_of`."""
    from pipeline.runtime.object_storage import session

    return session.folder_of(text)


def run_folder_with_labels(text: str) -> Path:
    """The same, for a command that needs no vectors and no models."""
    from pipeline.runtime.object_storage import layout, session

    return session.folder_of(text, layout.is_for_labels)


def run_folder_with_status(text: str) -> Path:
    """The same, for `status`: a few small files."""
    from pipeline.runtime.object_storage import layout, session

    return session.folder_of(text, layout.is_for_status)


RUN_HELP = "Run directory, or URL of a run, such as s3://bucket/run."
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", parser=run_folder, metavar="PATH|URL", help="Run directory, or its URL.")
]
PoolArgument = Annotated[
    str, typer.Argument(metavar="POOL", help="Folder, manifest, nih:FOLDER, medmnist:NAME or phantom:.")
]
RunArgument = Annotated[Path, typer.Argument(parser=run_folder, metavar="RUN", help=RUN_HELP)]
LabelledRun = Annotated[Path, typer.Argument(parser=run_folder_with_labels, metavar="RUN", help=RUN_HELP)]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file; see `cxr-ssl config show`.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override one option, e.g. --set queue.budget=50.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Start again.")]
HostOption = Annotated[str, typer.Option(help="Address to serve on; another than the loopback is seen by others.")]
PortOption = Annotated[int, typer.Option(help="Port; 0 takes a free one.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Warnings of the audit block too.")]
AcceptOption = Annotated[
    list[str] | None, typer.Option("--accept", help="Override a blocking check, or `all`; needs --because.")
]
BecauseOption = Annotated[str | None, typer.Option("--because", help="Why; printed in every report.")]


def overrides_of(options: dict[str, Any], pairs: list[str] | None) -> dict[str, Any]:
    """Dotted name to value, of options of their own that were given and then of `--set NAME=VALUE`.

    Raises:
        InputError: a pair is not written so, or names no option.
    """
    from pipeline.contracts.config_file import parse_override

    overrides = {key: value for key, value in options.items() if value is not None}
    return overrides | dict(parse_override(text) for text in pairs or [])


def accepted_checks(accept: list[str] | None, because: str | None) -> Any:
    """What `--accept` and `--because` say, as `request.Request` takes it.

    Raises:
        InputError: a check has no reason, a reason no check, or there is no such check.
    """
    from pipeline.audit import overrides

    return tuple(overrides.parse(accept, because))


def print_answer(result: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    """Print what a command found: one JSON object, or what `show` makes of it for people."""
    if as_json:
        console.say(json.dumps(result))
    else:
        show(result)
