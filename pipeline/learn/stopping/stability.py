"""Do the predictions still change? Agreement of consecutive rounds on scans nobody has labelled.

Where two models that learned from growing labels call the same scans alike, and go on doing so, further labels change
little. What does not change need not be good: a model may be stable and wrong.

Source: Bloodgood & Vijay-Shanker 2009 (stopping by stabilising predictions: Cohen's kappa on a fixed set of unlabelled
examples, at least .99 as the mean of the last three comparisons, a set of 2,000).

Shapes: N scans compared.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts.options.learning import StopConfig
from pipeline.contracts.tables import PREDICTIONS
from pipeline.learn.scan_rows import ScanRows

FIRST, ROLLED_BACK, ONE_CLASS, FEW = (
    "this round or the one before has no classifier",
    "the round was rolled back, so its predictions are those of the round before",
    "every scan is called the same",
    "fewer than 10 scans without a label are left to compare",
)
MIN_SCANS = 10


@dataclass(frozen=True)
class Stability:
    """How far a round's predictions are those of the round before.

    Attributes:
        kappa: Cohen's kappa, at most 1; None where it says nothing.
        num_scans: Scans compared.
        why: Why there is no kappa; empty where there is one.
        mean: Of the last comparisons; None before there are enough.
        num_comparisons: How many that mean is taken over.
        threshold: From which mean on predictions count as stable.
        is_stable: Whether they do.
    """

    kappa: float | None
    num_scans: int
    why: str
    mean: float | None
    num_comparisons: int
    threshold: float
    is_stable: bool

    def to_json(self) -> dict[str, Any]:
        """As a part of `forecast.json`."""
        return asdict(self)


def stop_set(pool_T: ScanRows, num_scans: int) -> ScanRows:
    """The scans that every round's predictions are compared on: the first in the order of their ids, which are hashes.

    So it is a draw by chance, the same in every round and on every machine.
    """
    return ScanRows(pool_T.image_id.sort().slice(0, num_scans))


def measure(
    before: Path,
    folder: Path,
    stop_scans: ScanRows,
    labelled: Collection[str],
    *,
    rolled_back: bool,
    earlier: Sequence[float | None],
    options: StopConfig,
) -> Stability:
    """Compare a round's predictions with those of the round before.

    Args:
        before: Folder of the round before; it may be lacking.
        folder: Folder of the round.
        stop_scans: See `stop_set`.
        labelled: Scans that experts have answered; they are left out.
        rolled_back: Whether the round's model is the one before: their agreement would prove nothing.
        earlier: The kappas of the rounds before, in order.
        options: How many comparisons, and how high their mean.
    """
    why, kappa, num_scans = "", None, 0
    if not all((place / PREDICTIONS.file).exists() for place in (before, folder)):
        why = FIRST
    elif rolled_back:
        why = ROLLED_BACK
    else:
        open_scans = pa.array(sorted({*stop_scans.image_id.to_pylist()} - {*labelled}), pa.string())
        old_N, new_N = _calls(before, folder, open_scans)
        num_scans = len(new_N)
        kappa = cohen_kappa(old_N, new_N) if num_scans >= MIN_SCANS else None
        why = "" if kappa is not None else ONE_CLASS if num_scans >= MIN_SCANS else FEW
    last = [*earlier, kappa][-options.num_comparisons :]
    known = [value for value in last if value is not None]
    mean = float(np.mean(known)) if len(known) == options.num_comparisons else None
    is_stable = mean is not None and mean >= options.agreement
    return Stability(kappa, num_scans, why, mean, options.num_comparisons, options.agreement, is_stable)


def cohen_kappa(first_N: np.ndarray, second_N: np.ndarray) -> float | None:
    """Agreement beyond chance of two lists of calls; None where both make one and the same call throughout."""
    names = np.unique(np.concatenate([first_N, second_N]))
    share_C, other_C = (np.array([(calls_N == name).mean() for name in names]) for calls_N in (first_N, second_N))
    by_chance = float(share_C @ other_C)
    if by_chance >= 1.0:
        return None
    return (float((first_N == second_N).mean()) - by_chance) / (1.0 - by_chance)


def _calls(before: Path, folder: Path, scans: pa.Array) -> list[np.ndarray]:
    """What two rounds call these scans, in the order of their ids, of those that both know."""
    columns = ["image_id", "predicted"]
    old, new = (
        pq.read_table(place / PREDICTIONS.file, columns=columns, partitioning=None) for place in (before, folder)
    )
    both = pc.and_(*(pc.is_in(scans, value_set=table["image_id"].combine_chunks()) for table in (old, new)))
    common = scans.filter(both)
    places = (pc.index_in(common, value_set=table["image_id"].combine_chunks()) for table in (old, new))
    return [
        np.asarray(table["predicted"].take(place).to_numpy().astype(str))
        for table, place in zip((old, new), places, strict=True)
    ]
