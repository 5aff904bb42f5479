"""Lines on standard output and standard error, and numbers as they are shown there."""

import typer

from pipeline.runtime.object_storage import addresses


def say(text: str) -> None:
    """One line or more on standard output."""
    typer.echo(addresses.shown(text))


def complain(text: str, kind: str) -> None:
    """What went wrong, on standard error; `kind` stands before it."""
    colour = typer.colors.YELLOW if kind == "waiting" else typer.colors.RED
    head, _, rest = addresses.shown(text).partition("\n")
    typer.secho(f"{kind}: {head}", fg=colour, err=True)
    if rest:
        typer.echo(rest.rstrip("\n"), err=True)


def pass_on(text: str) -> None:
    """A piece of another program's log, on standard error."""
    typer.echo(text, err=True, nl=False)


def score(value: float | None) -> str:
    """`0.912`; a dash where there is no number."""
    return "–" if value is None else f"{value:.3f}"


def between(interval: list[float] | None) -> str:
    """` (0.890 to 0.930)`, to follow a number; empty where there is none."""
    return "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
