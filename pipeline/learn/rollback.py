"""Whether a round made the classifier worse, and what goes on if it did."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts.options.learning import PseudoConfig
from pipeline.contracts.tables import PSEUDO, write_parquet
from pipeline.labels.class_counts import MIN_LABELS
from pipeline.learn.scan_rows import ScanRows
from pipeline.measures import folds
from pipeline.measures.weighted_metrics import RankOrder, ratio
from pipeline.runtime.run_files import OOF, ROW

# E expert-labelled scans, C findings, B draws of G patient groups

log = logging.getLogger(__name__)
NUM_BOOTSTRAP = 200
MIN_JUDGED = 30  # scans both rounds judged; on fewer a bootstrap's interval is too narrow
MIN_SHARE_JUDGED = 0.5  # of this round's labels, where the round before only carries an earlier one over


class Allowed(NamedTuple):
    """Falls that are no reason to roll back, 0 to 1; see `pseudo.rollback_*`."""

    auroc: float
    accuracy: float
    brier: float

    @classmethod
    def of(cls, pseudo: PseudoConfig) -> "Allowed":
        """By the options."""
        return cls(pseudo.rollback_auroc, pseudo.rollback_accuracy, pseudo.rollback_brier)


def save_oof(folder: Path, ids: list[str], prob_EC: np.ndarray, findings: tuple[str, ...]) -> None:
    """Keep a round's out-of-fold probabilities (E, C) for the comparison of the next round."""
    columns = {"image_id": pa.array(ids, pa.string())}
    columns |= {f"prob_{finding}": pa.array(prob_EC[:, c]) for c, finding in enumerate(findings)}
    write_parquet(folder / OOF, pa.table(columns))


def is_worse(
    before: Path,
    ids: list[str],
    prob_EC: np.ndarray,
    class_E: np.ndarray,
    group_E: list[str],
    findings: tuple[str, ...],
    allowed: Allowed,
    rng: np.random.Generator,
) -> bool:
    """Whether a round is worse out of fold, beyond chance, than the one in `before`, on the scans both judged.

    Worse in ranking (AUROC), in calls (accuracy) or in calibration (Brier score), see `falls`. Nothing is rolled back
    where the scans both judged are too few. Nor where they are fewer than half of the labels and the round before was
    itself rolled back: the one in force is an early one then, lucky on its few scans, and would stay for ever.

    Args:
        before: Folder of the round before; it may be lacking.
        ids: image_id of each expert-labelled scan.
        prob_EC: Its out-of-fold probabilities in this round.
        class_E: Its class index.
        group_E: Its patient group.
        findings: C classes.
        allowed: Falls that are no reason to roll back.
        rng: Of the bootstrap.
    """
    if not (before / OOF).exists():
        return False
    table = pq.read_table(before / OOF)
    earlier = ScanRows.of(table["image_id"])
    judged_again = earlier.among(ScanRows.of(ids))
    old_EC = np.column_stack([table[f"prob_{finding}"].to_numpy() for finding in findings])[judged_again]
    now = ScanRows.of(ids).positions(earlier.keep(judged_again))
    if len(now) < max(MIN_JUDGED, MIN_SHARE_JUDGED * len(ids) * _was_rolled_back(before)):
        log.info("only %d of %d labels were judged by the round before: it is not compared", len(now), len(ids))
        return False
    judged = falls(old_EC, prob_EC[now], class_E[now], [group_E[i] for i in now], allowed, rng)
    for fall in judged:
        if fall.beyond_chance:
            text = "out-of-fold %s is worse by %.3f on the same %d scans: rolled back"
            log.warning(text, fall.measure, fall.amount, len(now))
    return any(fall.beyond_chance for fall in judged)


def _was_rolled_back(folder: Path) -> bool:
    path = folder / ROW
    return path.exists() and bool(json.loads(path.read_text("utf-8")).get("rolled_back"))


def carry_over(before: Path, folder: Path, expert_ids: list[str], open_classes: list[str]) -> None:
    """After a roll-back: the pseudo-labels of the round before go on, less what experts have answered since.

    The gate of this round holds: a class whose certificate has lapsed is not admitted any more.
    """
    table = PSEUDO.read(before)
    still_open = pc.is_in(table["finding"], value_set=pa.array(open_classes, pa.string()))
    column = table.column_names.index("admitted")
    table = table.set_column(column, PSEUDO.schema.field("admitted"), pc.and_(table["admitted"], still_open))
    answered = pc.is_in(table["image_id"], value_set=pa.array(expert_ids, pa.string()))
    PSEUDO.write(folder, table.filter(pc.invert(answered)))
    write_parquet(folder / OOF, pq.read_table(before / OOF))


def judged_classes(class_E: np.ndarray, num_classes: int) -> list[int]:
    """Classes whose one-vs-rest AUROC says something: at least five labels, and as many of other classes."""
    count_C = np.bincount(class_E, minlength=num_classes)
    return [c for c in range(num_classes) if MIN_LABELS <= count_C[c] <= len(class_E) - MIN_LABELS]


def oof_auroc(prob_EC: np.ndarray, class_E: np.ndarray) -> float | None:
    """Macro one-vs-rest AUROC of out-of-fold probabilities over the `judged_classes`; None without any."""
    from sklearn.metrics import roc_auc_score

    classes = judged_classes(class_E, prob_EC.shape[1])
    values = [roc_auc_score(class_E == c, prob_EC[:, c]) for c in classes]
    return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class Fall:
    """How much worse the same scans are judged than before.

    Attributes:
        measure: `AUROC`, `accuracy` or `Brier score`.
        amount: By how much it is worse; negative: better.
        beyond_chance: Whether by more than is allowed, and the one-sided 95 % bound of a paired patient-cluster
            bootstrap is above zero. On a few dozen scans one swapped pair moves AUROC by a point, so the amount alone
            would roll back every other good round.
    """

    measure: str
    amount: float
    beyond_chance: bool


def falls(
    old_EC: np.ndarray,
    new_EC: np.ndarray,
    class_E: np.ndarray,
    group_E: Sequence[str],
    allowed: Allowed,
    rng: np.random.Generator,
) -> list[Fall]:
    """How ranking, calls and calibration changed on the same scans; what nothing can be said of is left out.

    AUROC alone misses a temperature that ran away: it lost 18 points of accuracy and none of AUROC. A class of fewer
    than `MIN_LABELS` labels has no say: neither its ranking nor its own scans are judged.

    Args:
        old_EC: Probabilities before.
        new_EC: Probabilities now.
        class_E: Class index.
        group_E: Patient group.
        allowed: Falls that are no reason to roll back.
        rng: Of the bootstrap.
    """
    has_say_E = np.bincount(class_E, minlength=old_EC.shape[1])[class_E] >= MIN_LABELS
    weight_BE = _draws(group_E, rng)
    old, new = oof_auroc(old_EC, class_E), oof_auroc(new_EC, class_E)
    judged = []
    if old is not None and new is not None:
        drop_B = _auroc_of_draws(old_EC, class_E, weight_BE) - _auroc_of_draws(new_EC, class_E, weight_BE)
        judged.append(_fall("AUROC", old - new, drop_B, allowed.auroc))
    for measure, worse_E, most in (
        ("accuracy", _right(old_EC, class_E) - _right(new_EC, class_E), allowed.accuracy),
        ("Brier score", _brier(new_EC, class_E) - _brier(old_EC, class_E), allowed.brier),
    ):
        if has_say_E.any():
            of_draws_B = ratio(weight_BE[:, has_say_E] @ worse_E[has_say_E], weight_BE[:, has_say_E].sum(1))
            judged.append(_fall(measure, float(worse_E[has_say_E].mean()), of_draws_B, most))
    return judged


def _fall(measure: str, amount: float, worse_B: np.ndarray, allowed: float) -> Fall:
    worse_B = worse_B[np.isfinite(worse_B)]
    surely = len(worse_B) >= NUM_BOOTSTRAP // 2 and float(np.quantile(worse_B, 0.05)) > 0.0
    return Fall(measure, amount, amount > allowed and surely)


def _right(prob_EC: np.ndarray, class_E: np.ndarray) -> np.ndarray:
    return np.asarray((prob_EC.argmax(1) == class_E).astype(float))


def _brier(prob_EC: np.ndarray, class_E: np.ndarray) -> np.ndarray:
    """Half the squared distance to the truth, 0 to 1, (E,); of two classes the usual Brier score."""
    return np.asarray(0.5 * np.square(prob_EC - np.eye(prob_EC.shape[1])[class_E]).sum(1))


def _draws(group_E: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """How often each scan is in each draw of as many patients as there are, (B, E)."""
    group_index = folds.group_index(list(group_E))
    num_groups = int(group_index.max()) + 1
    draws_BG = [rng.integers(num_groups, size=num_groups) for _ in range(NUM_BOOTSTRAP)]
    return np.array([np.bincount(draw_G, minlength=num_groups)[group_index] for draw_G in draws_BG], float)


def _auroc_of_draws(prob_EC: np.ndarray, class_E: np.ndarray, weight_BE: np.ndarray) -> np.ndarray:
    """`oof_auroc` of B draws of patients, each by how often it holds every scan, (B,); NaN where one class only.

    As one array operation: a round compares 200 draws, and a library call for each would take longer than its training.
    """
    classes = judged_classes(class_E, prob_EC.shape[1])
    area_CB = np.array([RankOrder(prob_EC[:, c], class_E == c).areas(weight_BE)[0] for c in classes])
    return ratio(np.nansum(area_CB, axis=0), np.isfinite(area_CB).sum(axis=0).astype(float))
