"""The command line. Heavy libraries are imported inside the commands, so that --help answers at once."""

import errno
import json
import logging
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands import output
from pipeline.contracts import storage
from pipeline.contracts.errors import AuditBlocked, ConfigError, CxrSslError, InputError, Stopped, WaitingForLabels
from pipeline.runtime.processes import stop_signals

if TYPE_CHECKING:
    from pipeline.commands.benches.curves import CurvesRequest

log = logging.getLogger("pipeline")
DEBUG = "CXR_SSL_DEBUG"  # set it to see the traceback of an unexpected error
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


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
config_app = typer.Typer(no_args_is_help=True, help="Show, check or describe configurations.")
labels_app = typer.Typer(no_args_is_help=True, help="Bring expert labels back into a run, and take them back.")
queue_app = typer.Typer(no_args_is_help=True, help="Hand a run's queue out to annotators.")
app.add_typer(config_app, name="config")
app.add_typer(queue_app, name="queue")
app.add_typer(labels_app, name="labels")


def _run(text: str) -> Path:
    """The folder of a run that was named by its folder or its URL; see `session.folder_of`."""
    from pipeline.runtime.object_storage import session

    return session.folder_of(text)


def _run_of_labels(text: str) -> Path:
    """The same, for a command that needs no vectors and no models."""
    from pipeline.runtime.object_storage import layout, session

    return session.folder_of(text, layout.is_for_labels)


def _run_of_status(text: str) -> Path:
    """The same, for `status`: a few small files."""
    from pipeline.runtime.object_storage import layout, session

    return session.folder_of(text, layout.is_for_status)


RUN_HELP = "Run directory, or URL of a run, such as s3://bucket/run."
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", parser=_run, metavar="PATH|URL", help="Run directory, or its URL.")
]
RunArgument = Annotated[Path, typer.Argument(parser=_run, metavar="RUN", help=RUN_HELP)]
LabelledRun = Annotated[Path, typer.Argument(parser=_run_of_labels, metavar="RUN", help=RUN_HELP)]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file; see `cxr-ssl config show`.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override one option, e.g. --set queue.budget=50.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Warnings of the audit block too.")]
AcceptOption = Annotated[
    list[str] | None, typer.Option("--accept", help="Override a blocking check, or `all`; needs --because.")
]
BecauseOption = Annotated[str | None, typer.Option("--because", help="Why; printed in every report.")]


def _print_version(asked: bool) -> None:
    if asked:
        output.say(f"cxr-ssl {version('cxr-ssl')}")
        raise typer.Exit


@app.callback()
def _of_all_commands(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command()
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
        overrides=_overrides(options, set_),
        out=out,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        accept=_accepted(accept, because),
        grow=tuple(grow or ()),
    )
    if dry_run:
        _answer(commands_run.dry_run(request), as_json, output.plan)
        return
    _answer(commands_run.execute(request), as_json, output.run)


@app.command()
def embed(
    pool: Annotated[str, typer.Argument(help="Folder, manifest, nih:FOLDER, medmnist:NAME or phantom:.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=_run, metavar="PATH|URL", help="Folder for manifest.parquet and embeddings.npy."
        ),
    ],
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in --out; only new scans are embedded.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Embed a pool; scans the store knows already are not computed again."""
    from pipeline.commands import request as commands_request
    from pipeline.commands import run as commands_run

    request = commands_request.Request(
        config_file=config,
        overrides=_overrides({"pool.uri": pool}, set_),
        out=out,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        stages=("manifest", "embed"),
    )
    _answer(commands_run.execute(request), as_json, output.run)


@app.command()
def pretrain(
    pool: Annotated[str, typer.Argument(help="Folder, manifest, nih:FOLDER, medmnist:NAME or phantom:.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=_run,
            metavar="PATH|URL",
            help="Folder for the run; the backbone goes to OUT/pretrain.",
        ),
    ],
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in --out from the last epoch.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again.")] = False,
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
        overrides=_overrides({"pool.uri": pool}, set_),
        out=out,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
    )
    _answer(commands_pretrain.pretrain_pool(request), as_json, output.pretrained)


@app.command()
def audit(
    pool: Annotated[
        str,
        typer.Argument(help="Folder, manifest, nih:FOLDER, medmnist:NAME, phantom:, or a run directory."),
    ],
    config: ConfigOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=_run, metavar="PATH|URL", help="Folder for audit.json and its page."),
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
        config_file=config, overrides=_overrides(options, set_), out=out, quiet=quiet, accept=_accepted(accept, because)
    )
    result = commands_audit.audit_pool(request)
    _answer(result, as_json, output.audit)
    if result["blocking"]:
        output.complain(blocked_message(result), "blocked")
        raise typer.Exit(AuditBlocked.exit_code)


@app.command()
def evaluate(
    folder: RunArgument,
    pool: Annotated[str | None, typer.Option(help="Another pool: an external test.")] = None,
    against: Annotated[
        Path | None,
        typer.Option(parser=_run, metavar="RUN", help="Another run on the same holdout: a paired comparison."),
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
    options = _overrides({"evaluate.prevalences": prevalence or None, "evaluate.promise_error": act_or_defer}, set_)
    _answer(commands_evaluate.evaluate(folder, pool, against, options), as_json, output.evaluation)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            parser=_run,
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

    _answer(compare_runs.compare(runs, out), as_json, output.comparison)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(parser=_run_of_status, metavar="RUN", help=RUN_HELP)],
    as_json: JsonOption = False,
) -> None:
    """Say how far a run came, where its labels stand, and what it waits for."""
    from pipeline.commands import status as commands_status

    _answer(commands_status.status(folder), as_json, output.status)


@app.command()
def report(folder: RunArgument, as_json: JsonOption = False) -> None:
    """Write the report of a run again."""
    from pipeline.commands import run as commands_run

    _answer(commands_run.rebuild_report(folder), as_json, lambda result: output.say(f"report: {result['report']}"))


@app.command("release")
def write_release(
    folder: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="New .csv or .parquet file; the certificate lies beside it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the pseudo-labels others may use, with their certificate; refuses what blind checks do not certify."""
    from pipeline.commands import release as commands_release

    _answer(commands_release.write_release(folder, out), as_json, output.released)


@app.command()
def predict(
    folder: RunArgument,
    pool: Annotated[str, typer.Argument(help="Any pool, or one file.")],
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

    options = _overrides({"predict.false_alarm_rate": false_alarms}, set_)
    beside = Beside(heat_maps=heat_maps, dicom=dicom)
    if watch:
        _answer(commands_predict.watch(folder, pool, out, options, beside), as_json, output.watched)
        return
    _answer(commands_predict.predict(folder, pool, out, options, quiet, beside), as_json, output.predicted)


@app.command()
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


@app.command()
def monitor(
    folder: RunArgument,
    pool: Annotated[str, typer.Argument(help="The batch: any pool.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the batches so far, or a new one.")],
    set_: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say whether new scans are still like those the model was judged on, and what has moved.

    Ends with 0 (steady, or too few scans to tell), 5 (watch) or 6 (retrain).
    """
    from pipeline.commands import predict as commands_predict

    result = commands_predict.monitor(folder, pool, out, _overrides({}, set_), quiet)
    _answer(result, as_json, output.monitored)
    raise typer.Exit(result["exit_code"])


@app.command("export")
def export_model(
    folder: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the model.")],
    as_json: JsonOption = False,
) -> None:
    """Write the run's classifier for use elsewhere: ONNX from scan to probability, safetensors, preprocessing, card."""
    from pipeline.commands import export

    _answer(export.export_model(folder, out), as_json, output.exported)


@queue_app.command("export")
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
    _answer(labels.export_queue(folder, wish), as_json, output.exported_queue)


@labels_app.command("import")
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
    _answer(result, as_json, output.imported)


@labels_app.command("reports")
def labels_reports(
    pool: Annotated[str, typer.Argument(help="Folder, manifest or another pool, as for `audit`.")],
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
    _answer(preview.read_pool(config, _overrides(options, set_)), as_json, output.reports)


@labels_app.command("log")
def labels_log(folder: LabelledRun, as_json: JsonOption = False) -> None:
    """Show every import and every sitting at the page, and whether it stands."""
    from pipeline.commands import labels

    _answer({"batches": labels.log_of(folder)}, as_json, output.log)


@labels_app.command("undo")
def labels_undo(
    folder: LabelledRun,
    batch: Annotated[str | None, typer.Argument(help="Number in `labels log`; the latest when left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take an import back; its answers stay on record and no longer count."""
    from pipeline.commands import labels

    _answer(
        labels.undo(folder, batch),
        as_json,
        lambda result: output.say(
            f"batch {result['batch']} ({result['kind']}): {result['num_undone']} answers taken back"
        ),
    )


@app.command()
def annotate(
    folder: LabelledRun,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8017,
    host: Annotated[
        str, typer.Option(help="Address to serve on; another than the loopback is seen by others.")
    ] = "127.0.0.1",
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

    def show_link(link: str) -> None:
        output.say(f"label here, Ctrl-C stops it: {link}")
        sys.stdout.flush()

    labels.annotate(
        folder,
        host=host,
        port=port,
        url=url,
        blind=not show_why,
        adjudicators=adjudicator or (),
        readers=reader or (),
        reader_header=reader_header,
        ready=show_link,
    )


@app.command()
def explore(
    folder: RunArgument,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8018,
    host: Annotated[
        str, typer.Option(help="Address to serve on; another than the loopback is seen by others.")
    ] = "127.0.0.1",
    url: Annotated[
        str | None, typer.Option(help="Address of a TLS proxy in front of the page, e.g. https://scans.example.org.")
    ] = None,
) -> None:
    """Look at a run's pool: a map, a gallery, filters, tags, wishes for the next queue; open the printed link."""
    from pipeline.explore import open_page

    def show_link(link: str) -> None:
        output.say(f"look here, Ctrl-C stops it: {link}")
        sys.stdout.flush()

    open_page.explore(folder, host=host, port=port, url=url, ready=show_link)


@config_app.command("show")
def config_show(config: ConfigOption = None, set_: SetOption = None) -> None:
    """Print the whole configuration as YAML, with defaults filled in and each option described."""
    from pipeline.contracts import config_file

    output.say(config_file.described(config_file.load(config, _overrides({}, set_))).rstrip())


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the configuration."""
    from pipeline.contracts import config_file

    output.say(json.dumps(config_file.schema(), indent=1))


@config_app.command("check")
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
    output.say(f"{len(files)} files, no mistakes")


@app.command()
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
    overrides = _overrides({}, set_)
    if name == "reference":
        from pipeline.baselines import report as baselines_report
        from pipeline.commands.benches import reference

        of_sets = reference.Request(covid, kermany, out, seeds, vgg16, overrides, quiet)
        _answer(reference.reference(of_sets), as_json, baselines_report.show)
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
    _answer(result, as_json, show)


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


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
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
        output.say(job.line(address))
        return
    job_id, code = client.submit(job, address, output.pass_on)
    output.submitted(job_id, code)
    raise typer.Exit(code)


@app.command()
def doctor(
    privacy: Annotated[
        Path | None,
        typer.Option(parser=_run, metavar="RUN", help="A run: look for identifiers of its pool in all that it wrote."),
    ] = None,
    terms: Annotated[Path | None, typer.Option(help="With --privacy: further terms to look for, one a line.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what this machine has and what a run would use; with --privacy, whether a run names patients."""
    from pipeline.commands import doctor as examiner

    if privacy is not None:
        from pipeline.commands.privacy.run_scan import scan

        result = scan(privacy, terms)
        _answer(result, as_json, output.privacy)
        raise typer.Exit(0 if result["ok"] else 1)
    rows = examiner.examine()
    _answer({"ok": all(row["ok"] for row in rows), "checks": rows}, as_json, output.doctor)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


def main(*words: str) -> None:
    """Run the command; an error is one message and an exit code, never a traceback.

    Args:
        words: What stands before the arguments of this process, as a job puts its command there.
    """
    sys.argv[1:1] = words
    from pipeline.runtime.progress import configure_logging

    configure_logging(quiet="--quiet" in sys.argv or "-q" in sys.argv, verbose=False)
    try:
        with stop_signals.handled():
            app()
    except WaitingForLabels as waiting:
        output.complain(str(waiting.what), "waiting")
        _answer_failure("waiting", str(waiting.what))
        raise SystemExit(waiting.exit_code) from None
    except AuditBlocked as blocked:
        output.complain(str(blocked.what), "blocked")
        output.complain(f"see {blocked.where}", "report")
        _answer_failure("blocked", str(blocked.what))
        raise SystemExit(blocked.exit_code) from None
    except CxrSslError as error:
        is_stopped = isinstance(error, Stopped)
        output.complain(str(error), "stopped" if is_stopped else "error")
        _answer_failure("stopped" if is_stopped else "failed", str(error))
        raise SystemExit(error.exit_code) from None
    except Exception as error:  # the last door; the traceback is in crash.log, or shown on request
        if os.environ.get(DEBUG):
            raise
        _answer_failure("failed", f"{type(error).__name__}: {error}")
        raise SystemExit(_complain_of_crash(error)) from None


def _overrides(options: dict[str, Any], pairs: list[str] | None) -> dict[str, Any]:
    from pipeline.contracts.config_file import parse_override

    overrides = {key: value for key, value in options.items() if value is not None}
    return overrides | dict(parse_override(text) for text in pairs or [])


def _accepted(accept: list[str] | None, because: str | None) -> Any:
    from pipeline.audit import overrides

    return tuple(overrides.parse(accept, because))


def _answer(result: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    if as_json:
        output.say(json.dumps(result))
    else:
        show(result)


def _answer_failure(state: str, message: str) -> None:
    """With --json, standard output holds one object whatever happens."""
    if "--json" in sys.argv:
        output.say(json.dumps({"state": state, "message": message}))


def _complain_of_crash(error: Exception) -> int:
    """Say what happened; returns the exit code."""
    if isinstance(error, OSError) and error.errno in storage.FULL + storage.UNSTEADY + FORBIDDEN:
        fix = "make room" if error.errno in storage.FULL else "look at the storage"
        fix = "mend its permissions or name another folder" if error.errno in FORBIDDEN else fix
        known = CxrSslError(str(error.strerror), where=error.filename, fix=f"{fix}, then go on with --resume")
        output.complain(str(known), "error")
        return 2 if error.errno in FORBIDDEN else 1
    what = " ".join(f"{type(error).__name__}: {error}".split())
    details = "; ".join(getattr(error, "__notes__", [])) or f"set {DEBUG}=1 to see where"
    output.complain(f"{what[:300]}. This is a mistake of ours, please report it; {details}", "internal error")
    return 1
