"""Pools with labels -> methods compared: bench."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import (
    JsonOption,
    QuietOption,
    SetOption,
    overrides_of,
    print_answer,
)
from pipeline.contracts.errors import InputError

if TYPE_CHECKING:
    from pipeline.commands.benches.curves import CurvesRequest

commands = typer.Typer()


@commands.command()
def bench(
    name: Annotated[
        str,
        typer.Argument(
            help="reference: baselines a reader knows, on a set a reader knows. selection: strategies against random. "
            "pseudo: ways to learn against expert labels alone."
        ),
    ],
    covid: Annotated[str | None, typer.Option(help="reference: pool with COVID scans and patients, as covid3.")] = None,
    kermany: Annotated[str | None, typer.Option(help="reference: pool of Kermany et al. 2018.")] = None,
    pool: Annotated[
        list[str] | None, typer.Option(help="selection, pseudo: a pool, or NAME=POOL; may be repeated.")
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="selection: one strategy; may be repeated. Random is always among them. pseudo: draws the labels, "
            "in place of random."
        ),
    ] = None,
    way: Annotated[
        list[str] | None,
        typer.Option(help="pseudo: one way to learn; may be repeated. Expert labels alone are always among them."),
    ] = None,
    budgets: Annotated[
        str, typer.Option(help="selection, pseudo: numbers of labels, rising.")
    ] = "10,20,35,50,100,200,500",
    rare: Annotated[
        float | None, typer.Option(help="selection, pseudo: every pool also with its rarest finding at this share.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the result.")] = None,
    seeds: Annotated[int, typer.Option(help="Draws, each with its own split and training.")] = 5,
    vgg16: Annotated[Path | None, typer.Option(help="reference: ImageNet weights of torchvision's VGG16.")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure baselines beside published figures, strategies against random selection, or ways to learn."""
    overrides = overrides_of({}, set_)
    if name == "reference":
        from pipeline.baselines import report as baselines_report
        from pipeline.commands.benches import reference

        of_sets = reference.Request(covid, kermany, out, seeds, vgg16, overrides, quiet)
        print_answer(reference.reference(of_sets), as_json, baselines_report.show)
        return
    from pipeline.commands.benches import curves

    request = curves.CurvesRequest(
        pools=tuple(pool or ()),
        out=out,
        budgets=curves.read_budgets(budgets),
        rare=rare,
        num_seeds=seeds,
        overrides=overrides,
        quiet=quiet,
    )
    result, show = _bench_over_budgets(name, request, tuple(strategy or ()), tuple(way or ()))
    print_answer(result, as_json, show)


def _bench_over_budgets(
    name: str, request: "CurvesRequest", strategies: tuple[str, ...], ways: tuple[str, ...]
) -> tuple[dict[str, Any], Callable[[dict[str, Any]], None]]:
    """The result of a bench over budgets, and what shows it."""
    from pipeline.baselines.curves import pseudo_report, selection_report
    from pipeline.commands.benches import pseudo, selection

    if name == "selection":
        return selection.selection(request, strategies), selection_report.show
    if name == "pseudo":
        return pseudo.pseudo(request, ways, strategies), pseudo_report.show
    raise InputError("no such bench", value=name, where="bench", fix="known: reference, selection, pseudo")
