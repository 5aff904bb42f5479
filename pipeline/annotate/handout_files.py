"""Queues leave as files: for anybody when a queue is drawn, for named annotators on request.

An annotator sees a scan and its place in her own order. Why it was chosen, its path, its patient and what the model
thinks of it stay out of every file.
"""

import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.annotate import assignments, queue_csv, worklist, zip_bundle
from pipeline.annotate.label_studio import tasks as label_studio_tasks
from pipeline.annotate.page.backend import PageOptions
from pipeline.annotate.pictures import uris_and_priors, write_picture
from pipeline.annotate.queue_csv import Origin, Row
from pipeline.annotate.worklist import Worklist
from pipeline.contracts import finding_line
from pipeline.contracts.answers import Answer
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import are_independent
from pipeline.contracts.options.scans import PoolConfig
from pipeline.contracts.tables import PREDICTIONS, write_text
from pipeline.pool.burned_in import scans as burned_in
from pipeline.runtime import run_files

log = logging.getLogger(__name__)
FORMATS = ("labelstudio", "csv", "html", "bundle")


@dataclass(frozen=True)
class Wish:
    """What to export.

    Attributes:
        names: Annotators; empty: one export that anybody may fill.
        formats: Of `FORMATS`.
        images_url: Where Label Studio finds the pictures: `s3://…`, `gs://…` (they are copied there) or `https://…`.
        reassign: Hand out anew what was handed out and not answered.
        preannotate: Show the model's answer in Label Studio, where that does no harm.
    """

    names: tuple[str, ...] = ()
    formats: tuple[str, ...] = FORMATS
    images_url: str | None = None
    reassign: bool = False
    preannotate: bool = False


@dataclass(frozen=True)
class Handout:
    """What one annotator is given.

    Attributes:
        folder: Where the files go; pictures lie in the round's `images/`.
        rows: The scans in the annotator's order.
        origin: Whose it is, and what asks.
        findings: Classes an answer may name.
        images_url: Where Label Studio finds the pictures; None: on its own disk, below the run's parent folder.
        predictions: image_id to (reply, score, model version) that Label Studio shows; empty: blind.
        page: How the page in a bundle looks and speaks.
    """

    folder: Path
    rows: tuple[Row, ...]
    origin: Origin
    findings: tuple[str, ...]
    images_url: str | None = None
    predictions: Mapping[str, tuple[str, float, str]] = field(default_factory=dict)
    page: PageOptions = field(default_factory=PageOptions)

    @property
    def pictures(self) -> Path:
        """The round's pictures; those of scans asked before lie there too."""
        return _round_folder_of(self.folder) / run_files.PICTURES


def hand_out(
    folder: Path,
    findings: tuple[str, ...],
    answers: Sequence[Answer],
    wish: Wish,
    *,
    pool: PoolConfig,
    reread_share: float,
    page: PageOptions = PageOptions(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Export the latest queue, to everybody or to named annotators.

    Args:
        folder: Run directory.
        findings: Classes an answer may name.
        answers: All answers that stand.
        wish: What to export.
        pool: Says how scans are read, and whether those with text burnt in are handed out.
        reread_share: An annotator's own earlier answers asked again, for each new scan.
        page: How the page in a bundle looks and speaks.

    Returns:
        {"round","run","files":{name: [paths]},"num_scans":{name: n}}.

    Raises:
        InputError: when there is no queue, or nothing is left to hand out.
    """
    round_index = run_files.latest_round(folder)
    if round_index is None:
        raise InputError("has no queue yet", where=folder, fix=f"draw one: cxr-ssl run --out {folder} --resume")
    code = run_files.run_code(folder) or ""
    open_work = worklist.open_worklist(folder, round_index, answers)
    round_folder = run_files.round_folder(folder, round_index)
    names = wish.names or ("",)
    open_ = open_work.open()
    if not wish.names and not open_:
        log.warning("every scan of this queue is answered; it is written as it was asked")
    lists: assignments.Handed = {"": [ask.image_id for ask in open_ or open_work.asks]}
    if wish.names:
        before = {} if wish.reassign else assignments.assignments(folder, round_index)
        lists = assignments.assign(
            open_work, names, before, lambda name: worklist.rereads(folder, answers, name, round_index), reread_share
        )
        names = tuple(_busy(lists, names, open_work))
    uris, _ = uris_and_priors(folder, {image_id for name in names for image_id in lists[name]})
    kept = burned_in.kept_back(folder, pool, uris)
    handed = {name: [image_id for image_id in asked if image_id not in kept] for name, asked in lists.items()}
    if wish.names:  # what no file holds is nobody's: somebody may still read it on the page
        content = {name: asked for name, asked in handed.items() if asked}
        write_text(round_folder / run_files.ASSIGNMENTS, json.dumps(content, indent=1, ensure_ascii=False))
    shown = predictions(folder, open_work, code, findings) if wish.preannotate else {}
    if shown:
        write_text(round_folder / run_files.PREANNOTATED, json.dumps(sorted(shown)))
    files: dict[str, list[str]] = {}
    for name in names:
        own = round_folder / run_files.ANNOTATORS / slug(name) if name else round_folder
        origin = Origin(name, round_index, code)
        handout = Handout(own, rows_of(own, lists[name]), origin, findings, wish.images_url, shown, page)
        files[name] = [str(path) for path in write_files(handout, wish.formats, uris, pool.max_pixels, kept)]
    return {"round": round_index, "run": code, "files": files, "num_scans": {name: len(handed[name]) for name in names}}


def rows_of(folder: Path, image_ids: Sequence[str]) -> tuple[Row, ...]:
    """The rows of a list that is written to `folder`, in its order."""
    return tuple(Row(i, rank, _picture_path(folder, i)) for rank, i in enumerate(image_ids, start=1))


def write_files(
    handout: Handout,
    formats: Sequence[str],
    uris: Mapping[str, str],
    max_pixels: int,
    kept_back: Collection[str] = frozenset(),
) -> list[Path]:
    """Write a handout's pictures and files; a queue.csv that somebody has filled is left alone.

    Args:
        handout: What is given.
        formats: Of `FORMATS`.
        uris: Where each scan is read from.
        max_pixels: A larger scan is not decoded.
        kept_back: Scans that may not leave (`burned_in.scans.kept_back`); how many are missing is said.
    """
    from pipeline.annotate.contact_sheet import queue_html

    num_asked = len(handout.rows)
    handout = _without(handout, kept_back)
    for row in handout.rows:
        write_picture(handout.pictures / f"{row.image_id}.png", uris[row.image_id], max_pixels)
    made = []
    if "csv" in formats:
        made.append(_write_table(handout))
    if "labelstudio" in formats:
        made += _write_label_studio(handout)
    if "html" in formats:
        path = handout.folder / run_files.QUEUE_PAGE
        scans = [row._asdict() | {"file": str(handout.pictures / f"{row.image_id}.png")} for row in handout.rows]
        num_kept_back = num_asked - len(handout.rows)
        sheet = queue_html(scans, findings=handout.findings, origin=handout.origin, num_kept_back=num_kept_back)
        write_text(path, sheet)
        made.append(path)
    if "bundle" in formats:
        path = handout.folder / "bundle.zip"
        zip_bundle.write_bundle(path, handout.rows, handout.pictures, handout.findings, handout.origin, handout.page)
        made.append(path)
    return made


def _without(handout: Handout, kept_back: Collection[str]) -> Handout:
    rows = tuple(row for row in handout.rows if row.image_id not in kept_back)
    missing = len(handout.rows) - len(rows)
    if missing:
        log.warning(
            "%d of %d scans are not handed out, for text seems to be burnt into them: %s",
            missing,
            len(handout.rows),
            burned_in.FIX,
        )
    return replace(handout, rows=rows)


def _write_table(handout: Handout) -> Path:
    """Write `queue.csv`; where somebody has filled one it stays, and what it lacks goes to `queue.new.csv`."""
    path, rows = handout.folder / run_files.QUEUE_TABLE, handout.rows
    filled = path.read_text("utf-8-sig", errors="replace") if path.exists() else ""
    if filled and queue_csv.is_filled(path.name, filled):
        rows = tuple(row for row in rows if row.image_id not in filled)
        if not rows:
            return path
        log.warning("%s is filled and stays as it is; what it lacks is in queue.new.csv beside it", path)
        path = path.with_name("queue.new.csv")
    write_text(path, queue_csv.write_csv(rows, handout.findings, handout.origin))
    return path


def predictions(
    folder: Path, open_work: Worklist, code: str, findings: Sequence[str]
) -> dict[str, tuple[str, float, str]]:
    """What the model of the round before says of the scans that need not be read blind.

    Only representatives are shown with it: whatever measures (the uniform slice, re-checks, the holdout) or settles
    (disputes, doubts) is read blind, always.
    """
    before = open_work.round_index - 1
    path = run_files.round_folder(folder, before)
    if not (path / PREDICTIONS.file).exists():
        return {}
    table = PREDICTIONS.read(path)
    shown = pa.array([ask.image_id for ask in open_work.asks if ask.kind == "representative"], pa.string())
    rows = table.filter(pc.is_in(table["image_id"], value_set=shown)).to_pylist()
    version = f"{code}-round-{before}"
    prediction_of: dict[str, tuple[str, float, str]] = {}
    for row in rows:
        score = _score(row, findings)
        if score is not None:
            prediction_of[row["image_id"]] = (row["predicted"], score, version)
    if len(prediction_of) < len(rows):
        without = len(rows) - len(prediction_of)
        log.warning(
            "no answer of the model is shown with %d of %d scans: it cannot tell every finding", without, len(rows)
        )
    return prediction_of


def _score(row: Mapping[str, Any], findings: Sequence[str]) -> float | None:
    """How probable the model's answer to a scan is; of independent findings that of the least probable part.

    None where it says nothing of a finding: whoever left its answer as it is would say "unknown".
    """
    if not are_independent(findings):
        return float(row[f"prob_{row['predicted']}"])
    state_of = finding_line.read(row["predicted"])
    if any(math.isnan(value) for value in state_of.values()):
        return None
    prob = {finding: float(row[f"prob_{finding}"]) for finding in state_of}
    return min(prob[finding] if value else 1.0 - prob[finding] for finding, value in state_of.items())


def slug(name: str) -> str:
    """A folder name for an annotator: her name where that is safe, else with a hash that keeps it her own."""
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)
    return safe if safe == name and not name.startswith(".") else f"{safe}-{run_files.digest(name)[:6]}"


def _busy(lists: assignments.Handed, names: Sequence[str], open_work: Worklist) -> list[str]:
    """The names something is left for; the others are told of.

    Raises:
        InputError: when nothing is left for any of them.
    """
    busy = [name for name in names if lists[name]]
    idle = ", ".join(name for name in names if not lists[name])
    if busy and idle:
        log.warning("nothing is left for %s", idle)
    if busy:
        return busy
    open_ = open_work.open()
    read = [ask for ask in open_ if set(names) <= open_work.readers.get(ask.image_id, set())]
    if not open_:
        what, fix = "", "every scan of this queue is answered; go on with cxr-ssl run --out RUN --resume"
    elif len(read) == len(open_):
        what = f": the {len(open_)} open scans need another reader"
        fix = "name another annotator, or draw queues with fewer readers (queue.readers_per_scan)"
    else:
        what = f": all {len(open_)} open scans are handed out"
        fix = "name all annotators in one command, with --reassign to hand out anew what is not answered"
    raise InputError(f"nothing is left for {idle}{what}", where="queue export", fix=fix)


def _write_label_studio(handout: Handout) -> list[Path]:
    url = handout.images_url
    served = handout.pictures.relative_to(_round_folder_of(handout.folder).parent.parent.parent).as_posix()
    if url is not None and not url.startswith(("http://", "https://")):
        _copy_pictures(handout, url)
    tasks = label_studio_tasks.tasks(
        [(row.image_id, row.rank) for row in handout.rows],
        lambda image_id: (
            f"{url.rstrip('/')}/{image_id}.png"
            if url
            else label_studio_tasks.local_files_url(f"{served}/{image_id}.png")
        ),
        run=handout.origin.run,
        round_index=handout.origin.round_index,
        annotator=handout.origin.annotator or None,
        findings=handout.findings,
        predictions=handout.predictions or None,
    )
    path, config = handout.folder / "queue.labelstudio.json", handout.folder / "queue.labelstudio.xml"
    write_text(path, label_studio_tasks.task_json(tasks))
    write_text(config, label_studio_tasks.labelling_config(handout.findings))
    return [path, config]


def _copy_pictures(handout: Handout, images_url: str) -> None:
    """Copy the pictures to an object store, where Label Studio reads them by its own credentials."""
    try:
        files, root = fsspec.core.url_to_fs(images_url)
        files.makedirs(root, exist_ok=True)
        for row in handout.rows:
            files.put_file(str(handout.pictures / f"{row.image_id}.png"), f"{root.rstrip('/')}/{row.image_id}.png")
    except (OSError, ImportError, ValueError) as error:
        raise InputError(
            f"pictures cannot be copied there ({error})",
            value=images_url,
            where="--images",
            fix="check the address and its credentials; s3:// needs the extra s3",
        ) from error


def _round_folder_of(folder: Path) -> Path:
    return folder.parent.parent if folder.parent.name == run_files.ANNOTATORS else folder


def _picture_path(folder: Path, image_id: str) -> str:
    return f"{'' if _round_folder_of(folder) == folder else '../../'}{run_files.PICTURES}/{image_id}.png"
