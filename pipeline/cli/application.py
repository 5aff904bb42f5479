"""The application: all commands, in the order of the help."""

from importlib.metadata import version
from typing import Annotated, Any

import typer

from pipeline.cli import benches, configs, evidence, labelling, machines, models, runs
from pipeline.cli.printed import console
from pipeline.runtime.processes import stop_signals


class Commands(typer.core.TyperGroup):
    """All commands; a signal ends each with a message and an exit code of its own."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            Stopped: a signal ended it.
        """
        try:
            with stop_signals.as_it_was():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:  # before click makes of it an exit code that says nothing
            raise stop_signals.stopped(stop, fix="give the same command again") from None


app = typer.Typer(
    name="cxr-ssl",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Label-efficient chest X-ray classification: embeddings, label queues, pseudo-labels, and the evidence.",
)
for group in (runs, evidence, models, labelling, benches, machines):
    app.add_typer(group.commands)
app.add_typer(configs.commands, name="config")
app.add_typer(labelling.queue_commands, name="queue")
app.add_typer(labelling.labels_commands, name="labels")


def _print_version(asked: bool) -> None:
    if asked:
        console.say(f"cxr-ssl {version('cxr-ssl')}")
        raise typer.Exit


@app.callback()
def _of_all_commands(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...
