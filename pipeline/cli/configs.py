"""Configurations: config show, schema, check."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    ConfigOption,
    SetOption,
    overrides_of,
)
from pipeline.cli.printed import console
from pipeline.contracts.errors import ConfigError

commands = typer.Typer(no_args_is_help=True, help="Show, check or describe configurations.")


@commands.command("show")
def config_show(config: ConfigOption = None, set_: SetOption = None) -> None:
    """Print the whole configuration as YAML, with defaults filled in and each option described."""
    from pipeline.contracts import config_file

    console.say(config_file.described(config_file.load(config, overrides_of({}, set_))).rstrip())


@commands.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the configuration."""
    from pipeline.contracts import config_file

    console.say(json.dumps(config_file.schema(), indent=1))


@commands.command("check")
def config_check(files: Annotated[list[Path], typer.Argument(help="YAML files.")]) -> None:
    """Check configurations; every mistake is shown, with its line."""
    from pipeline.contracts import config_file

    mistakes: list[str] = []
    for path in files:
        try:
            config_file.load(path)
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    console.say(f"{len(files)} files, no mistakes")
