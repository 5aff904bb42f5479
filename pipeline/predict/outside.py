"""Whether a scan is outside what a run knows: how far it lies from the training pool, in the features heads see.

The distance is that to the k-th nearest scan of the training pool, which needs no label and no form of the pool's cloud
(Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors"), with every principal component divided
by its standard deviation in the training pool. What counts as far is said by the run's own held-out scans, of which a
chosen share may be called outside by mistake, see `formulas.threshold`.

Legend: N scans, P features, Q of them, the leading ones, that are looked at, R scans of the training pool that are
compared with, H held-out scans.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import SPLIT_TABLE, write_bytes
from pipeline.predict import formulas
from pipeline.runtime import private_files, run_dir, run_files
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors

VERSION = 1  # raise it whenever the file means something else
MAX_REFERENCE = 10_000
SCANS_A_COMPONENT = 10  # of the training pool; the spread of a component is not known from fewer
FEWEST_COMPONENTS = 8
_ARRAYS = ("scale_Q", "reference_RQ", "held_out_H")
FEWEST_HELD_OUT = 50  # with fewer, scans of the training pool are held out instead, each with its patient


@dataclass(frozen=True)
class Outside:
    """The training pool as far as it is compared with, and the distances of scans that are known to belong.

    Attributes:
        scale_Q: What the leading features are multiplied with: one over their spread in the training pool.
        reference_RQ: Scans of the training pool so scaled, at most `MAX_REFERENCE`, drawn once by chance; float32.
        held_out_H: Distances of held-out scans, rising.
        held_out: Where those come from: `holdout` or `training`.
    """

    scale_Q: np.ndarray
    reference_RQ: np.ndarray
    held_out_H: np.ndarray
    held_out: str

    @cached_property
    def _exact_RQ(self) -> np.ndarray:
        """The reference in double precision, made once."""
        return self.reference_RQ.astype(np.float64)

    def distances(self, x_NP: np.ndarray) -> np.ndarray:
        """Distance of each scan to the k-th nearest of the reference (N,), float64."""
        return formulas.kth_distances(formulas.scaled(x_NP, self.scale_Q), self._exact_RQ)

    def threshold(self, false_alarm_rate: float) -> float | None:
        """The distance beyond which a scan counts as outside; None: too few held-out scans to promise the rate."""
        return formulas.threshold(self.held_out_H, false_alarm_rate)

    def scores(self, x_NP: np.ndarray, false_alarm_rate: float) -> np.ndarray:
        """Distances over the threshold (N,): above 1 is outside; NaN where there is no threshold."""
        threshold = self.threshold(false_alarm_rate)
        return self.distances(x_NP) / (np.nan if threshold is None else max(threshold, 1e-12))


def of_run(folder: Path) -> Outside:
    """What a run knows; worked out once and kept in its folder."""
    path, fingerprint = run_files.path(folder, run_files.OUTSIDE), _fingerprint(folder)
    kept = _read(path, fingerprint)
    if kept is not None:
        return kept
    outside = _measured(folder)
    with private_files.readable_by(folder):
        _keep(path, outside, fingerprint)
    return outside


def _measured(folder: Path) -> Outside:
    vectors, x_NP = Vectors.open(folder), principal_components.load(folder)
    splits = run_files.read(folder, SPLIT_TABLE, ["image_id", "group_id", "split"])
    train, holdout = (splits.filter(pc.equal(splits["split"], side))["image_id"] for side in ("train", "holdout"))
    rows_T, rows_H = np.sort(vectors.positions(train)), np.sort(vectors.positions(holdout))
    num_features = min(x_NP.shape[1], max(FEWEST_COMPONENTS, len(rows_T) // SCANS_A_COMPONENT))
    chosen_R = np.sort(np.random.default_rng(0).permutation(len(rows_T))[:MAX_REFERENCE])
    x_RQ = np.asarray(x_NP[rows_T[chosen_R], :num_features], np.float32)
    scale_Q = (1.0 / principal_components.floored_sd(x_RQ)).astype(np.float32)
    reference_RQ = formulas.scaled(x_RQ, scale_Q)
    if len(rows_H) >= FEWEST_HELD_OUT:
        held_out_H = formulas.kth_distances(formulas.scaled(np.asarray(x_NP[rows_H]), scale_Q), reference_RQ)
        return Outside(scale_Q, reference_RQ, np.sort(held_out_H), "holdout")
    group_R = _groups(splits, vectors.ids.take(pa.array(rows_T[chosen_R])))
    held_out_H = formulas.kth_distances(reference_RQ, reference_RQ, group_N=group_R, group_R=group_R)
    return Outside(scale_Q, reference_RQ, np.sort(held_out_H[np.isfinite(held_out_H)]), "training")


def _groups(splits: pa.Table, image_ids: pa.ChunkedArray) -> np.ndarray:
    """Patient group of scans, as numbers."""
    place = pc.index_in(image_ids, value_set=splits["image_id"].combine_chunks())
    groups: Sequence[str] = splits["group_id"].take(place).to_pylist()
    return np.unique(groups, return_inverse=True)[1]


def _fingerprint(folder: Path) -> str:
    """Changes whenever the scans, the split or the features do."""
    clusters = run_dir.stage_records(folder).get("clusters", {}).get("fingerprint")
    splits = run_dir.file_hash(run_files.path(folder, SPLIT_TABLE.file))
    basis = run_dir.file_hash(run_files.path(folder, run_files.BASIS))
    parts = {"version": VERSION, "clusters": clusters, "splits": splits, "basis": basis, "k": formulas.NUM_NEIGHBORS}
    return run_dir.fingerprint(parts)


def _read(path: Path, fingerprint: str) -> Outside | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("fingerprint") != fingerprint:
                return None
            scale_Q, reference_RQ, held_out_H = (file.get_tensor(name) for name in _ARRAYS)
            return Outside(scale_Q, reference_RQ, held_out_H, metadata["held_out"])
    except (OSError, SafetensorError):
        return None


def _keep(path: Path, outside: Outside, fingerprint: str) -> None:
    from safetensors.numpy import save

    arrays = {name: getattr(outside, name) for name in _ARRAYS}
    with contextlib.suppress(OSError):  # a run that may only be read: it is worked out again the next time
        write_bytes(path, save(arrays, {"fingerprint": fingerprint, "held_out": outside.held_out}))
