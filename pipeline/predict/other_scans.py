"""The scans to predict: any pool, or one file; what its labels say is of no interest."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decode import IMAGE_ENDINGS
from embeddings.decoding import dicom_file, raster
from embeddings.decoding.files import head_of
from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import ConfigError, InputError
from pipeline.contracts.object_store import local_path
from pipeline.contracts.tables import MANIFEST, SPLIT_TABLE
from pipeline.pool import whites
from pipeline.pool.sources import SCANS, Pool, open_pool
from pipeline.runtime import run_files

_NUM_HEX = 16  # of a SHA-256: 64 bits tell files apart
# What may be said of the pool to predict; all else is the model's.
SECTIONS = ("pool", "predict", "monitor", "engine")


def config_for(folder: Path, pool: str, overrides: dict[str, Any]) -> Config:
    """The run's own configuration for another pool: its labels are not read, what white is was decided by the run.

    Args:
        folder: The run, or one finding's part of it.
        pool: Address of the pool.
        overrides: Options of `SECTIONS`.

    Raises:
        InputError: an option of another section is among them.
    """
    strange = sorted(key for key in overrides if key.split(".")[0] not in SECTIONS)
    if strange:
        raise InputError(
            "the model was made with another value, which stays",
            value=strange[0],
            where="--set",
            fix=f"set only options of {', '.join(SECTIONS)} here",
        )
    own = config_file.load(folder / run_files.RESOLVED).pool
    plain: dict[str, Any] = {"pool.uri": pool, "pool.findings": None, "pool.finding": None, "pool.positive": None}
    plain |= {"pool.white": whites.of_run(folder, own.white), "oracle": False}
    plain |= {"pool.columns": {known: name for known, name in own.columns.items() if known not in _labels(own)}}
    return config_file.load(folder / run_files.RESOLVED, plain | overrides)


def _labels(own: Any) -> set[str]:
    """Columns that say what a scan shows."""
    return {"label", *(own.findings or ()), *([own.finding] if own.finding else [])}


def open_scans(config: Config) -> Pool:
    """The scans of a pool as far as they are to be read; one file is a pool of one.

    The run's own column names, and how it takes patients from paths, hold where they fit; classes or independent
    findings, as the pool itself has them.

    Raises:
        InputError: it cannot be read, or holds nothing.
    """
    path = local_path(config.pool.uri).expanduser()
    if _is_scan(path):
        return _of_file(path.absolute())
    attempts = [config.pool.model_copy(update=update) for update in _attempts(config)]
    first: InputError | None = None
    for attempt in attempts:
        try:
            return open_pool(attempt, cache_folder())
        except (InputError, ConfigError) as error:
            first = first or error
    assert first is not None
    raise first


def _attempts(config: Config) -> list[dict[str, Any]]:
    own, other = config.pool.findings_are, "independent" if config.pool.findings_are == "exclusive" else "exclusive"
    plain: tuple[dict[str, Any], ...] = ({}, {"columns": {}, "patient_regex": None})
    return [columns | {"findings_are": kind} for kind in (own, other) for columns in plain]


def _is_scan(path: Path) -> bool:
    """Whether an address is a picture, or is called one, and no list of pictures; a broken one is a row like others."""
    if not path.is_file():
        return False
    if path.suffix.lower() in IMAGE_ENDINGS:
        return True
    head = head_of(str(path)) or b""
    return raster.is_raster(head) or dicom_file.is_dicom(head)


def _of_file(path: Path) -> Pool:
    row = dict.fromkeys(SCANS.names) | {"path": path.name, "uri": str(path), "view": "unknown"}
    return Pool(path.stem, str(path.parent), pa.Table.from_pylist([row], SCANS))


class ScansOfRun:
    """The files a run has, by content: whether a scan is one of them, and on which side.

    Args:
        folder: The run, or one finding's part of it.
    """

    def __init__(self, folder: Path) -> None:
        manifest = run_files.read(folder, MANIFEST, ["image_id", "sha256"])
        splits = run_files.read(folder, SPLIT_TABLE, ["image_id", "split"])
        place = pc.index_in(manifest["image_id"], value_set=splits["image_id"].combine_chunks())
        known = pa.table({"sha256": manifest["sha256"], "split": splits["split"].take(place)}).drop_null()
        key_N = _keys(known["sha256"])
        order = np.argsort(key_N, kind="stable")
        self._key_N, self._split_N = key_N[order], np.array(known["split"].to_pylist(), object)[order]

    def sides(self, sha256: pa.ChunkedArray) -> pa.Array:
        """`train`, `holdout` or `excluded` of each content that the run has, else null."""
        asked_N = _keys(pc.fill_null(sha256, "0" * 64))
        if not len(self._key_N):
            return pa.nulls(len(asked_N), pa.string())
        place_N = np.minimum(np.searchsorted(self._key_N, asked_N), len(self._key_N) - 1)
        known_N = (self._key_N[place_N] == asked_N) & np.asarray(pc.is_valid(sha256))
        pairs = zip(self._split_N[place_N].tolist(), known_N.tolist(), strict=True)
        return pa.array([side if known else None for side, known in pairs], pa.string())


def _keys(sha256: pa.ChunkedArray) -> np.ndarray:
    return np.array([int(sha[:_NUM_HEX], 16) for sha in sha256.to_pylist()], np.uint64)
