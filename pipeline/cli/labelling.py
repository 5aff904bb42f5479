"""A run <-> people: queue export, labels, annotate, explore."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    ConfigOption,
    HostOption,
    JsonOption,
    LabelledRun,
    PortOption,
    RunArgument,
    SetOption,
    overrides_of,
    print_answer,
)
from pipeline.cli.printed import console
from pipeline.cli.printed import labelling as printed
from pipeline.contracts.errors import InputError

commands = typer.Typer()
labels_commands = typer.Typer(no_args_is_help=True, help="Bring expert labels back into a run, and take them back.")
queue_commands = typer.Typer(no_args_is_help=True, help="Hand a run's queue out to annotators.")


@queue_commands.command("export")
def queue_export(
    folder: LabelledRun,
    format_: Annotated[
        list[str] | None, typer.Option("--format", help="labelstudio, csv, html or bundle; may be repeated.")
    ] = None,
    annotator: Annotated[
        list[str] | None, typer.Option(help="Share the queue out to annotators, a list of their own each; repeat.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Where Label Studio finds the pictures: s3://…, gs://… (copied there), https://…."),
    ] = None,
    reassign: Annotated[bool, typer.Option("--reassign", help="Share out anew what is not answered.")] = False,
    preannotate: Annotated[
        bool,
        typer.Option("--preannotate", help="Show the model's answer in Label Studio, never where blindness counts."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the latest queue as files to label: for anybody, or a list of their own for each annotator."""
    from pipeline.annotate.handout_files import FORMATS, Wish
    from pipeline.commands import labels
    from pipeline.contracts.answers import annotator_name

    names = tuple(dict.fromkeys(annotator_name(name) for name in annotator or []))
    wish = Wish(names, tuple(format_ or FORMATS), images, reassign, preannotate)
    print_answer(labels.export_queue(folder, wish), as_json, printed.exported_queue)


@labels_commands.command("import")
def labels_import(
    folder: LabelledRun,
    files: Annotated[list[Path], typer.Argument(help="Filled queue.csv, answers.csv, bundle or Label Studio export.")],
    annotator: Annotated[str | None, typer.Option(help="Who gave these labels, where the files do not say.")] = None,
    account: Annotated[
        list[str] | None, typer.Option(help="Who a Label Studio account is, e.g. 1=dr-lee; may be repeated.")
    ] = None,
    skip_mistakes: Annotated[
        bool, typer.Option("--skip-mistakes", help="Take the good rows of a file that has bad ones.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add expert labels to a run; importing a file twice changes nothing."""
    from pipeline.annotate.import_files import Who
    from pipeline.commands import labels

    pairs = [text.partition("=") for text in account or []]
    wrong = [text for text, (number, _, name) in zip(account or [], pairs, strict=True) if not (number and name)]
    if wrong:
        raise InputError("is no account", value=wrong[0], where="--account", fix="write NUMBER=NAME or E-MAIL=NAME")
    who = Who(annotator, {number: name for number, _, name in pairs})
    result = labels.import_labels(folder, files, who, skip_mistakes=skip_mistakes)
    print_answer(result, as_json, printed.imported)


@labels_commands.command("reports")
def labels_reports(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="Folder, manifest or another pool, as for `audit`.")],
    config: ConfigOption = None,
    reports: Annotated[
        str | None, typer.Option("--reports", help="Column of the pool's table, or folder or table of reports.")
    ] = None,
    rules: Annotated[str | None, typer.Option("--rules", help="en, de, or a rules file.")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count what a pool's radiology reports say of each finding; opens no scan and needs no run."""
    from pipeline.radiology_reports import preview

    options = {"pool.uri": pool, "pool.reports": reports, "reports.rules": rules}
    print_answer(preview.read_pool(config, overrides_of(options, set_)), as_json, printed.reports)


@labels_commands.command("log")
def labels_log(folder: LabelledRun, as_json: JsonOption = False) -> None:
    """Show every import and every sitting at the page, and whether it stands."""
    from pipeline.commands import labels

    print_answer({"batches": labels.log_of(folder)}, as_json, printed.log)


@labels_commands.command("undo")
def labels_undo(
    folder: LabelledRun,
    batch: Annotated[str | None, typer.Argument(help="Number in `labels log`; the latest when left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take an import back; its answers stay on record and no longer count."""
    from pipeline.commands import labels

    print_answer(
        labels.undo(folder, batch),
        as_json,
        lambda result: console.say(
            f"batch {result['batch']} ({result['kind']}): {result['num_undone']} answers taken back"
        ),
    )


@commands.command()
def annotate(
    folder: LabelledRun,
    port: PortOption = 8017,
    host: HostOption = "127.0.0.1",
    url: Annotated[
        str | None, typer.Option(help="Address of a TLS proxy in front of the page, e.g. https://labels.example.org.")
    ] = None,
    show_why: Annotated[bool, typer.Option("--show-why", help="Tell annotators why a scan was chosen.")] = False,
    reader: Annotated[
        list[str] | None,
        typer.Option(help="A link of her own for this reader, and none for everybody; may be repeated."),
    ] = None,
    reader_header: Annotated[
        str | None,
        typer.Option(help="Header in which the proxy of --url says who is signed in, e.g. X-Forwarded-User."),
    ] = None,
    adjudicator: Annotated[
        list[str] | None,
        typer.Option(help="Who decides where two readers differ (queue.design=two_and_adjudicator); may be repeated."),
    ] = None,
) -> None:
    """Serve the labelling page of a run's queue; open the printed link. Ctrl-C stops it, nothing is lost."""
    from pipeline.commands import labels

    labels.annotate(
        folder,
        host=host,
        port=port,
        url=url,
        blind=not show_why,
        adjudicators=adjudicator or (),
        readers=reader or (),
        reader_header=reader_header,
        ready=partial(_show_link, "label"),
    )


@commands.command()
def explore(
    folder: RunArgument,
    port: PortOption = 8018,
    host: HostOption = "127.0.0.1",
    url: Annotated[
        str | None, typer.Option(help="Address of a TLS proxy in front of the page, e.g. https://scans.example.org.")
    ] = None,
) -> None:
    """Look at a run's pool: a map, a gallery, filters, tags, wishes for the next queue; open the printed link."""
    from pipeline.explore import open_page

    open_page.explore(folder, host=host, port=port, url=url, ready=partial(_show_link, "look"))


def _show_link(verb: str, link: str) -> None:
    console.say(f"{verb} here, Ctrl-C stops it: {link}")
    sys.stdout.flush()
