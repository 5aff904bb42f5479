"""One task: some scans of a pool, read, embedded and predicted; a scan that cannot be used is a row with a reason."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from embeddings.decoding.files import read_bytes
from embeddings.decoding.unusable import DecodeError
from embeddings.extract import NOT_FINITE
from pipeline.pool.manifest import image_id
from pipeline.pool.reading import Read, ReadingOptions, read_scan
from pipeline.predict import columns, predictor
from pipeline.predict.recipe import Recipe
from pipeline.predict.scan_files import ScanFiles

BATCH_SIZE = 16  # scans that are read while as many are predicted


@dataclass(frozen=True)
class Shard:
    """Scans of one task.

    Attributes:
        recipe: How to predict.
        paths: Inside the pool.
        uris: Where to read each.
        files: What is written beside the rows.
    """

    recipe: Recipe
    paths: tuple[str, ...]
    uris: tuple[str, ...]
    files: ScanFiles = field(default_factory=ScanFiles)


def predict_shard(shard: Shard) -> pa.Table:
    """The rows of a shard, in its order, with `columns.schema`; `in_run` is left empty."""
    model = predictor.load(shard.recipe)
    rows: list[dict[str, Any]] = []
    uri_of = dict(zip(shard.paths, shard.uris, strict=True))
    for batch in read_ahead(shard):
        usable = [(row, read.square_SS) for row, read in batch if read is not None and read.square_SS is not None]
        if usable:
            scan_N1SS = np.stack([square_SS for _, square_SS in usable])[:, None]
            fill([row for row, _ in usable], model.predict(scan_N1SS), model.findings)
        for row, square_SS in usable:
            shard.files.write(model, row, square_SS, uri_of[row["path"]])
        rows += [row for row, _ in batch]
    return pa.Table.from_pylist(rows, schema=columns.schema(model.findings))


def predict_bytes(recipe: Recipe, scans: Sequence[bytes]) -> pa.Table:
    """The rows of files whose bytes are at hand, as of `predict_shard`; their paths are empty."""
    model = predictor.load(recipe)
    pairs = [_read("", data, recipe.reading) for data in scans]
    usable = [(row, read.square_SS) for row, read in pairs if read is not None and read.square_SS is not None]
    if usable:
        scan_N1SS = np.stack([square_SS for _, square_SS in usable])[:, None]
        fill([row for row, _ in usable], model.predict(scan_N1SS), model.findings)
    return pa.Table.from_pylist([row for row, _ in pairs], schema=columns.schema(model.findings))


def read_ahead(shard: Shard) -> Iterator[list[tuple[dict[str, Any], Read | None]]]:
    """Batches of rows with what was read of each; the next one is read while the caller works on this one."""
    starts = range(0, len(shard.paths), BATCH_SIZE)

    def load(start: int) -> list[tuple[dict[str, Any], Read | None]]:
        stop = start + BATCH_SIZE
        pairs = zip(shard.paths[start:stop], shard.uris[start:stop], strict=True)
        return [read_file(path, uri, shard.recipe.reading) for path, uri in pairs]

    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(load, starts[0])
        for start in starts:
            batch = following.result()
            if start + BATCH_SIZE < len(shard.paths):
                following = reader.submit(load, start + BATCH_SIZE)
            yield batch


def read_row(path: str, uri: str, options: ReadingOptions) -> tuple[dict[str, Any], np.ndarray | None]:
    """The row of a scan as far as its file says it, and the square that networks see; None where it is unusable.

    With the row go `width_px` and `height_px` of the file's picture, which are no columns.
    """
    row, read = read_file(path, uri, options)
    return row, None if read is None else read.square_SS


def read_file(path: str, uri: str, options: ReadingOptions) -> tuple[dict[str, Any], Read | None]:
    """The row of a scan as far as its file says it, and what was read of the file; None where it cannot be read."""
    try:
        data = read_bytes(uri, options.max_bytes)
    except DecodeError as error:
        return _unusable(path, str(error).removesuffix(".")), None
    except Exception as error:  # noqa: BLE001 - one bad scan must not end a million; it is counted and reported
        return _unusable(path, f"unexpected {type(error).__name__}: {str(error)[:120]}"), None
    return _read(path, data, options)


def _read(path: str, data: bytes, options: ReadingOptions) -> tuple[dict[str, Any], Read | None]:
    row: dict[str, Any] = {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "status": columns.UNUSABLE}
    row["image_id"] = image_id(path, row["sha256"])
    try:
        read = read_scan(data, options)
    except DecodeError as error:
        return row | {"reason": str(error).removesuffix(".")}, None
    except Exception as error:  # noqa: BLE001 - as above
        return row | {"reason": f"unexpected {type(error).__name__}: {str(error)[:120]}"}, None
    row |= {name: read.facts.get(name) for name in ("reason", "note", "width_px", "height_px")}
    if row["reason"] is None:
        row["status"] = columns.OK
    return row, read


def _unusable(path: str, reason: str) -> dict[str, Any]:
    """The row of a file that cannot be read."""
    return {"path": path, "image_id": image_id(path, None), "status": columns.UNUSABLE, "reason": reason}


def fill(rows: list[dict[str, Any]], predicted: predictor.Predicted, findings: tuple[str, ...]) -> None:
    """Write what was predicted of scans into their rows."""
    for place, row in enumerate(rows):
        answer, score = predicted.answer_N[place], float(predicted.score_N[place])
        if answer is None:
            row |= {"status": columns.UNUSABLE, "reason": NOT_FINITE}
            continue
        row["answer"] = answer
        if not np.isnan(score):
            row |= {"outside_score": score, "outside": score > 1.0}
        for finding in findings:
            values = (predicted.prob_N[finding], predicted.low_N[finding], predicted.high_N[finding])
            for name, value_N in zip(columns.names_of(finding), values, strict=True):
                row[name] = None if np.isnan(value_N[place]) else float(value_N[place])
