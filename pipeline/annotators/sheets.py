"""Queues as files: queue.csv, queue.labelstudio.json, queue.html and pictures without identity; and back again.

An annotator sees a scan and its rank. Why it was chosen, its path and its patient stay out of every file.
"""

import csv
import datetime as dt
import difflib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.contracts import write_bytes, write_text
from pipeline.errors import InputError
from pipeline.labels import Answer

CSV_COLUMNS = ("image_id", "rank", "file", "label", "choices")
CANNOT_TELL = ("cannot tell", "unknown", "?")


class Row(NamedTuple):
    """One line of a filled file: where it stands, the scan, the label, and who gave it where the file says so."""

    where: str
    image_id: str
    label: str
    reader: str = ""


def export(folder: Path, queue: pa.Table, uris: dict[str, str], findings: Sequence[str], max_pixels: int) -> None:
    """Write the queue's files into `rounds/RR`; an existing queue.csv may hold labels and is left alone."""
    from pipeline.report.contact_sheet import queue_html

    rows = [{"image_id": row["image_id"], "rank": row["rank"]} for row in queue.to_pylist()]
    for row in rows:
        row["file"] = f"images/{row['image_id']}.png"
        _picture(folder / row["file"], uris[row["image_id"]], max_pixels)
    if not (folder / "queue.csv").exists():
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for row in rows:
            writer.writerow([row["image_id"], row["rank"], row["file"], "", " | ".join(findings)])
        write_text(folder / "queue.csv", stream.getvalue())
    write_text(folder / "queue.labelstudio.json", json.dumps([_task(row, folder) for row in rows], indent=1))
    write_text(folder / "queue.labelstudio.xml", _labelling_config(findings))
    write_text(
        folder / "queue.html",
        queue_html([row | {"file": str(folder / row["file"])} for row in rows], findings=findings),
    )


def read_answers(
    path: Path, known: dict[str, int], findings: Sequence[str], annotator: str, time: dt.datetime
) -> tuple[list[Answer], int]:
    """Read a filled queue.csv or a Label Studio JSON export.

    Args:
        path: The file.
        known: image_id to the round that asked for it.
        findings: The classes an answer may name (case and blanks at the ends do not matter).
        annotator: Who filled it.
        time: When it was imported.

    Returns:
        The answers, and how many rows were blank.

    Raises:
        InputError: with every mistake and its line; then nothing of the file is taken.
    """
    text = _text(path)
    rows = _json_rows(path, text) if text.lstrip().startswith(("[", "{")) else _csv_rows(path, text)
    by_name = {finding.casefold(): finding for finding in findings}
    given: dict[tuple[str, str], tuple[str, str | None]] = {}
    answers, mistakes, num_blank = [], [], 0
    for where, image_id, label, reader in rows:
        value = label.strip().casefold()
        if not value:
            num_blank += 1
        elif image_id not in known:
            mistakes.append(f"{where}: this run never asked for {image_id!r}")
        elif value in by_name or value in CANNOT_TELL:
            finding = by_name.get(value)
            first, before = given.setdefault((image_id, reader), (where, finding))
            if before != finding:
                mistakes.append(f"{where}: {image_id!r} has another answer in {first}")
            elif first == where:
                who = f"{annotator}/{reader}" if reader else annotator
                answers.append(Answer(image_id, finding, who, known[image_id], time))
        else:
            near = difflib.get_close_matches(value, list(by_name), n=1)
            hint = f"; did you mean {by_name[near[0]]!r}?" if near else ""
            mistakes.append(f"{where}: unknown finding {label.strip()!r}{hint}")
    if mistakes:
        shown = "\n".join(mistakes[:20]) + (f"\n… and {len(mistakes) - 20} more" if len(mistakes) > 20 else "")
        raise InputError(
            f"{len(mistakes)} rows cannot be used, so nothing of the file was taken:\n{shown}",
            where=path.name,
            fix=f"findings are {', '.join(findings)}, or 'cannot tell'; mend the rows and import the file again",
        )
    return answers, num_blank


def refuse_contradictions(answers: Sequence[Answer]) -> None:
    """Refuse files given together in which one annotator answers one scan differently.

    Raises:
        InputError: naming the first such scan.
    """
    first: dict[tuple[str, str], str | None] = {}
    for answer in answers:
        if first.setdefault((answer.image_id, answer.annotator), answer.finding) != answer.finding:
            raise InputError(
                f"the files give {answer.image_id} two answers by {answer.annotator}, so nothing was taken",
                where="labels import",
                fix="import them one after the other if the later one corrects the earlier one",
            )


def is_filled(path: Path) -> bool:
    """Whether somebody has written a label into this queue.csv.

    Raises:
        InputError: when it cannot be read.
    """
    return any(row.label.strip() for row in _csv_rows(path, _text(path)))


def _picture(path: Path, uri: str, max_pixels: int) -> None:
    """An 8-bit PNG of the whole scan at its own size: no metadata, no identity."""
    if path.exists():
        return
    from PIL import Image

    from embeddings import decode

    pixels_HW = decode.decode(decode.read_bytes(uri), max_pixels=max_pixels).pixels_HW
    stream = io.BytesIO()
    Image.fromarray(np.round(pixels_HW * 255).astype(np.uint8)).save(stream, "PNG")
    write_bytes(path, stream.getvalue())


def _task(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    run = folder.parent.parent.name
    return {
        "data": {
            "image": f"/data/local-files/?d={run}/rounds/{folder.name}/{row['file']}",
            "image_id": row["image_id"],
            "rank": row["rank"],
        }
    }


def _labelling_config(findings: Sequence[str]) -> str:
    from xml.sax.saxutils import quoteattr

    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in [*findings, CANNOT_TELL[0]])
    return (
        '<View>\n  <Image name="image" value="$image" zoomControl="true" brightnessControl="true"'
        ' contrastControl="true"/>\n'
        f'  <Choices name="finding" toName="image" choice="single" required="true">\n{choices}\n  </Choices>\n</View>\n'
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            "no such file", value=str(path), where="labels import", fix="give a filled queue.csv or a JSON export"
        ) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, fix="give a file you can read") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot be read as UTF-8 text ({error})", where=path.name, fix="save it as UTF-8") from error


def _csv_rows(path: Path, text: str) -> list[Row]:
    header = text.partition("\n")[0]  # some spreadsheets write semicolons or tabs
    reader = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=header.count))
    columns = reader.fieldnames or []
    missing = [name for name in ("image_id", "label") if name not in columns]
    if missing:
        raise InputError(
            f"columns {missing} are missing", where=path.name, fix=f"it has {', '.join(columns) or 'none'}"
        )
    return [Row(f"{path.name}:{reader.line_num}", row["image_id"] or "", row["label"] or "") for row in reader]


def _json_rows(path: Path, text: str) -> list[Row]:
    try:
        tasks = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"is not whole JSON ({error})", where=path.name, fix="export it again") from error
    rows = []
    for i, task in enumerate(tasks if isinstance(tasks, list) else [tasks]):
        where = f"{path.name}, task {i + 1}"
        try:
            image_id = task.get("data", task)["image_id"]
            rows += [Row(where, str(image_id), label, reader) for reader, label in _choices(task)]
        except (AttributeError, KeyError, TypeError):
            raise InputError(
                "is not a Label Studio export", where=where, fix="choose JSON or JSON-MIN on export"
            ) from None
    return rows


def _choices(task: dict[str, Any]) -> list[tuple[str, str]]:
    """Reader and class of each annotation of a task of JSON or JSON-MIN; a skipped one does not count.

    The reader is empty where one person labelled the task, else the number Label Studio knows each by.
    """
    found: dict[str, str] = {}
    for annotation in task.get("annotations") or []:
        for result in annotation.get("result") or []:
            if result.get("type") == "choices" and not annotation.get("was_cancelled"):
                reader = annotation.get("completed_by") or ""
                reader = reader.get("id", "") if isinstance(reader, dict) else reader
                found[str(reader)] = str((result.get("value", {}).get("choices") or [""])[0])
    if len(found) == 1:
        return [("", next(iter(found.values())))]
    return list(found.items()) or [("", str(task.get("finding") or ""))]
