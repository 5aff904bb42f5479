"""A run -> its model at work: predict, serve, monitor, export."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    JsonOption,
    QuietOption,
    RunArgument,
    SetOption,
    overrides_of,
    print_answer,
)
from pipeline.cli.printed import models as printed

commands = typer.Typer()


@commands.command()
def predict(
    folder: RunArgument,
    pool: Annotated[str, typer.Argument(metavar="POOL", help="Any pool, or one file.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="New .parquet, .csv or .json file; ending in /: a JSON file a scan.")
    ],
    false_alarms: Annotated[
        float | None, typer.Option(help="Share of scans like the run's own that may be called outside, 0..1.")
    ] = None,
    heat_maps: Annotated[
        Path | None,
        typer.Option(help="New folder for a picture a scan and finding of what speaks for it, if checks allow it."),
    ] = None,
    dicom: Annotated[
        Path | None,
        typer.Option(help="New folder for structured reports of DICOM scans; with --heat-maps also captures of those."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with POOL, a folder that scans arrive in; --out ends in / and stays.")
    ] = False,
    set_: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say of every scan what the run's latest model thinks: calibrated probabilities, and whether it knows such scans.

    A scan that cannot be used is a row with the reason.
    """
    from pipeline.commands import predict as commands_predict
    from pipeline.predict.predict_pool import Beside

    options = overrides_of({"predict.false_alarm_rate": false_alarms}, set_)
    beside = Beside(heat_maps=heat_maps, dicom=dicom)
    if watch:
        print_answer(commands_predict.watch(folder, pool, out, options, beside), as_json, printed.watched)
        return
    print_answer(commands_predict.predict(folder, pool, out, options, quiet, beside), as_json, printed.predicted)


@commands.command()
def serve(
    folder: RunArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; one that others reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8600,
    token_file: Annotated[
        Path | None, typer.Option(help="File with what askers must know; else the variable CXR_SSL_TOKEN.")
    ] = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="A longer scan is refused.")] = 2**26,
    replicas: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that answer; one that ends is started again meanwhile.")
    ] = 1,
) -> None:
    """Answer scans over HTTP with what the run's latest model says of them, until ended. Not for diagnostic use."""
    from pipeline.commands import predict as commands_predict

    commands_predict.serve(folder, host, port, token_file, max_bytes, replicas)


@commands.command()
def monitor(
    folder: RunArgument,
    pool: Annotated[str, typer.Argument(metavar="POOL", help="The batch: any pool.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the batches so far, or a new one.")],
    set_: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say whether new scans are still like those the model was judged on, and what has moved.

    Ends with 0 (steady, or too few scans to tell), 5 (watch) or 6 (retrain).
    """
    from pipeline.commands import predict as commands_predict

    result = commands_predict.monitor(folder, pool, out, overrides_of({}, set_), quiet)
    print_answer(result, as_json, printed.monitored)
    raise typer.Exit(result["exit_code"])


@commands.command("export")
def export_model(
    folder: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the model.")],
    as_json: JsonOption = False,
) -> None:
    """Write the run's classifier for use elsewhere: ONNX from scan to probability, safetensors, preprocessing, card."""
    from pipeline.commands import export

    print_answer(export.export_model(folder, out), as_json, printed.exported)
