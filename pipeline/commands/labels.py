"""What the commands do with labels: hand queues out, take answers in, take them back, say where they stand."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipeline.annotate import handout_files, import_files, worklist
from pipeline.annotate.guide import page_options
from pipeline.annotate.handout_files import Wish
from pipeline.annotate.import_files import Scans, Who
from pipeline.contracts.answers import annotator_name
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.finding_line import are_independent
from pipeline.contracts.tables import MANIFEST, SPLIT_TABLE
from pipeline.labels import label_table, verdicts
from pipeline.labels.classes import findings_of
from pipeline.labels.journal import Batch, Journal
from pipeline.per_finding.parts import disagreements
from pipeline.runtime import private_files, run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.finding_folders import refuse_part
from pipeline.runtime.run_dir import config_of

log = logging.getLogger(__name__)
MAX_NAME = 100


def export_queue(folder: Path, wish: Wish) -> dict[str, Any]:
    """Write the latest queue's files, for anybody or for named annotators; see `handout_files.hand_out`."""
    config, findings = opened(folder)
    unknown = sorted(set(wish.formats) - {*handout_files.FORMATS})
    if unknown:
        raise InputError(
            "is no format", value=unknown[0], where="--format", fix=f"choose of {', '.join(handout_files.FORMATS)}"
        )
    answers = label_table.answers_of_pool(folder, run_files.asked(folder), run_files.latest_round(folder) or 0)
    answers += [entry.answer for entry in Journal.open(folder).active()]
    share = config.queue.reread_share
    with run_dir.kept(folder), private_files.readable_by(folder):
        return handout_files.hand_out(
            folder,
            findings,
            answers,
            wish,
            pool=config.pool,
            reread_share=share,
            page=page_options(config, findings),
        ) | {"out": str(folder)}


def import_labels(folder: Path, files: list[Path], who: Who, *, skip_mistakes: bool = False) -> dict[str, Any]:
    """Read answers and add them to the journal and the label store; the files are kept in `imports/`.

    Args:
        folder: Run directory.
        files: Filled queues (CSV, XLSX), answers.csv, bundles, exports of Label Studio, CVAT and FiftyOne.
        who: Who gave these labels, where the files do not say.
        skip_mistakes: Take the good rows of a file that has bad ones.

    Raises:
        InputError: with every row that cannot be used, unless they are skipped; then nothing is added.
    """
    config, findings = opened(folder)
    if config.oracle:
        log.warning("this is an oracle run: the pool answers its queue; labels of people count beside it")
    for path in files:
        import_files.refuse_file(path)
    if run_files.latest_round(folder) is None:
        raise RunDirError(
            "has asked for no labels yet", where=folder, fix=f"draw a queue: cxr-ssl run --out {folder} --resume"
        )
    digests = [run_dir.file_hash(path) for path in files]
    with run_dir.locked(folder):
        journal = Journal.open(folder)
        num_seen = sum(map(journal.imported, digests))
        harvested = import_files.harvest(files, _scans(folder), findings, who, journal.spelling)
        if not skip_mistakes:
            import_files.refuse(harvested, "labels import", findings)
        if who.annotator is None and any(answer.annotator == import_files.DEFAULT_NAME for answer in harvested.answers):
            log.warning("the files do not say who gave these labels; they count as those of one person, %r", "expert")
        with journal.writing():
            fresh, counts = import_files.news(harvested.answers, journal)
            for path, digest in zip(files, digests, strict=True):
                _keep(folder, path, digest)
            batch = journal.begin("import", files=[_clean(path.name) for path in files], hashes=digests)
            if fresh:
                journal.add(batch, worklist.sign(_open_work(folder, journal), fresh))
        disagreed = _settled(folder, findings)
    return {
        "num_new": len(fresh),
        "num_changed": counts["changed"],
        "num_known": counts["known"] + harvested.counts["repeated"],
        "num_older": counts["older"] + harvested.counts["superseded"],
        "num_blank": harvested.counts["blank"],
        "num_skipped": harvested.counts["skipped"],
        "num_mistakes": harvested.counts["mistake"],
        "mistakes": harvested.mistakes,
        "notes": harvested.notes,
        "num_files_known": num_seen,
        "num_disagreements": len(disagreed),
        "batch": batch.name if fresh else None,
        "out": str(folder),
    }


def log_of(folder: Path) -> list[dict[str, Any]]:
    """Every import and every sitting at the page: what it brought, and whether it stands."""
    opened(folder)
    journal = Journal.open(folder)
    scans_of: dict[str, list[str]] = {name: [] for name in journal.batches}
    standing: Counter[str] = Counter()
    for entry in journal.entries.values():
        scans_of[entry.batch].append(entry.answer.annotator)
        standing[entry.batch] += journal.stands(entry)
    return [
        {
            "batch": batch.name,
            "kind": batch.kind,
            "time": batch.time.isoformat(timespec="seconds"),
            "files": list(batch.files),
            "annotators": sorted(set(scans_of[batch.name])),
            "num_answers": len(scans_of[batch.name]),
            "num_standing": standing[batch.name],
            "undone": journal.undone[batch.name].isoformat(timespec="seconds")
            if batch.name in journal.undone
            else None,
        }
        for batch in journal.batches.values()
    ]


def undo(folder: Path, name: str | None = None) -> dict[str, Any]:
    """Take a batch back, the latest that stands when none is named; its answers stay on record.

    Raises:
        InputError: when there is no such batch, or it was undone before.
    """
    _, findings = opened(folder)
    with run_dir.locked(folder):
        journal = Journal.open(folder)
        with journal.writing():
            batch = _batch_to_undo(journal, name)
            gone = [entry for entry in journal.active() if entry.batch == batch.name]
            journal.undo(batch.name)
        _settled(folder, findings)
    return {"batch": batch.name, "kind": batch.kind, "files": list(batch.files), "num_undone": len(gone)}


def annotate(
    folder: Path,
    *,
    host: str,
    port: int,
    url: str | None,
    blind: bool,
    adjudicators: Sequence[str] = (),
    readers: Sequence[str] = (),
    reader_header: str | None = None,
    ready: Callable[[str], None],
) -> None:
    """Serve the labelling page until it is stopped.

    Args:
        folder: Run directory.
        host: Address to serve on.
        port: Port; 0 takes a free one.
        url: Address of a TLS proxy in front of the page, if there is one.
        blind: Keep annotators from learning why a scan was chosen.
        adjudicators: Who decides where two readers differ; each has a link of her own.
        readers: Who gets a link of their own; then there is none for everybody.
        reader_header: Header in which the proxy says who is signed in.
        ready: Called with the link once the page can be opened.

    Raises:
        InputError: when there is no queue, the port is taken, `url` is none, or the extra `annotate` is not installed.
    """
    try:
        from pipeline.annotate.page.server import serve
    except ModuleNotFoundError as error:
        raise InputError(
            f"needs a package that is not installed ({error.name})",
            where="annotate",
            fix="pip install 'cxr-ssl[annotate]'",
        ) from error
    from pipeline.annotate.page_session import Desk

    config, findings = opened(folder)
    names = _adjudicators(config, adjudicators)
    own_link = [annotator_name(name, "--reader") for name in readers]
    desk = Desk(folder, config, findings, blind=blind, adjudicators=names)
    try:
        with private_files.readable_by(folder):
            serve(
                desk,
                host=host,
                port=port,
                name=run_files.run_code(folder),
                url=url,
                readers=[*own_link, *(name for name in names if reader_header is None)],
                reader_header=reader_header,
                named_only=bool(own_link),
                ready=ready,
            )
    finally:
        desk.close()


def _adjudicators(config: Config, names: Sequence[str]) -> list[str]:
    """The names as they are kept.

    Raises:
        InputError: one is no name, or the queue's design has nothing for them to decide.
    """
    if names and config.queue.design != worklist.TWO_AND_ADJUDICATOR:
        raise InputError(
            "has no disputes to decide",
            value=config.queue.design,
            where="queue.design",
            fix=f"draw queues with queue.design={worklist.TWO_AND_ADJUDICATOR}, or leave out --adjudicator",
        )
    return [annotator_name(name, "--adjudicator") for name in names]


def opened(folder: Path) -> tuple[Config, tuple[str, ...]]:
    """Configuration and classes of a run that has come as far as its manifest.

    Raises:
        RunDirError: when the folder is no run, or one that has not begun.
    """
    config = config_of(folder)
    refuse_part(folder)
    if not (folder / SPLIT_TABLE.file).exists():
        raise RunDirError(
            "has not come to its queue yet", where=folder, fix=f"go on with: cxr-ssl run --out {folder} --resume"
        )
    return config, findings_of(StageContext(config, folder, SerialEngine()))


def _settled(folder: Path, findings: tuple[str, ...]) -> list[str]:
    """Bring the answers into the label table; returns the disputes."""
    label_table.settle(folder, findings)
    table = label_table.read(folder)
    several = are_independent(findings)
    disagreed = disagreements(table, findings) if several else verdicts.disagreements(table)
    if disagreed:
        log.warning("annotators disagree evenly on %d scans; they count as unanswered in training", len(disagreed))
    return disagreed


def _open_work(folder: Path, journal: Journal) -> worklist.Worklist:
    """The latest queue's list, with all answers that stand."""
    round_index = run_files.latest_round(folder) or 0
    answers = label_table.answers_of_pool(folder, run_files.asked(folder), round_index)
    answers += [entry.answer for entry in journal.active()]
    return worklist.open_worklist(folder, round_index, answers)


def _scans(folder: Path) -> Scans:
    splits = run_files.read(folder, SPLIT_TABLE, ["image_id", "split"])
    holdout = splits.filter(pc.equal(splits["split"], "holdout"))["image_id"].to_pylist()
    return Scans(
        asked=run_files.rounds_asking(folder),
        holdout=frozenset(holdout),
        others=frozenset(run_files.read(folder, MANIFEST, ["image_id"])["image_id"].to_pylist()),
        last_round=run_files.latest_round(folder) or 0,
        run=run_files.run_code(folder),
    )


def _keep(folder: Path, path: Path, digest: str) -> None:
    kept = folder / run_files.IMPORTS / f"{digest}-{_clean(path.name)}"
    kept.parent.mkdir(exist_ok=True)
    shutil.copyfile(path, kept)


def _clean(name: str) -> str:
    """A file's name, fit for a journal and a folder: what cannot be written is replaced, its end is kept."""
    return "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "_" for c in name)[-MAX_NAME:]


def _batch_to_undo(journal: Journal, name: str | None) -> Batch:
    active = {entry.batch for entry in journal.active()}
    standing = [batch for batch in journal.batches.values() if batch.name in active]
    if name is None and standing:
        return standing[-1]
    if name is None:
        raise InputError("no import stands that could be undone", where="labels undo", fix="see cxr-ssl labels log")
    if name in journal.batches and name not in journal.undone:
        return journal.batches[name]
    raise InputError(
        "was undone before" if name in journal.undone else "no such import",
        value=name,
        where="labels undo",
        fix="see cxr-ssl labels log",
    )
