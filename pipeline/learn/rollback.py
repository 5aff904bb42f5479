"""Whether a round made the classifier worse, and what goes on if it did."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts.tables import PSEUDO, write_parquet
from pipeline.learn.scan_rows import ScanRows
from pipeline.measures import folds
from pipeline.measures.weighted_metrics import RankOrder, ratio
from pipeline.runtime.run_files import OOF

# E expert-labelled scans, C findings, B draws of G patient groups

log = logging.getLogger(__name__)
NUM_BOOTSTRAP = 200


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
    allowed: float,
    rng: np.random.Generator,
) -> bool:
    """Whether out-of-fold AUROC fell beyond chance since the round in `before`, on the scans both rounds judged.

    Args:
        before: Folder of the round before; it may be lacking.
        ids: image_id of each expert-labelled scan.
        prob_EC: Its out-of-fold probabilities in this round.
        class_E: Its class index.
        group_E: Its patient group.
        findings: C classes.
        allowed: Fall of AUROC that is no reason to roll back, 0 to 1.
        rng: Of the bootstrap.
    """
    if not (before / OOF).exists():
        return False
    table = pq.read_table(before / OOF)
    earlier = ScanRows.of(table["image_id"])
    judged_again = earlier.among(ScanRows.of(ids))
    old_EC = np.column_stack([table[f"prob_{finding}"].to_numpy() for finding in findings])[judged_again]
    now = ScanRows.of(ids).positions(earlier.keep(judged_again))
    drop, beyond_chance = auroc_drop(old_EC, prob_EC[now], class_E[now], [group_E[i] for i in now], allowed, rng)
    if beyond_chance:
        log.warning("calibration AUROC fell by %.3f on the same %d scans: rolled back", drop, len(now))
    elif drop > allowed:
        log.info("calibration AUROC fell by %.3f on the same %d scans, within its noise: kept", drop, len(now))
    return beyond_chance


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


def oof_auroc(prob_EC: np.ndarray, class_E: np.ndarray) -> float | None:
    """Macro one-vs-rest AUROC of out-of-fold probabilities; None where one class only."""
    from sklearn.metrics import roc_auc_score

    values = [
        roc_auc_score(class_E == c, prob_EC[:, c])
        for c in range(prob_EC.shape[1])
        if 0 < (class_E == c).sum() < len(class_E)
    ]
    return float(np.mean(values)) if values else None


def auroc_drop(
    old_EC: np.ndarray,
    new_EC: np.ndarray,
    class_E: np.ndarray,
    group_E: list[str],
    allowed: float,
    rng: np.random.Generator,
) -> tuple[float, bool]:
    """How much AUROC fell on the same scans, and whether by more than `allowed` beyond chance.

    Beyond chance: the one-sided 95 % bound of a paired patient-cluster bootstrap is above zero. On a few dozen scans
    one swapped pair moves AUROC by a point, so the point estimate alone would roll back every other good round.
    """
    old, new = oof_auroc(old_EC, class_E), oof_auroc(new_EC, class_E)
    if old is None or new is None:
        return 0.0, False
    if old - new <= allowed:
        return old - new, False
    group_index = folds.group_index(group_E)
    num_groups = int(group_index.max()) + 1
    draws_BG = [rng.integers(num_groups, size=num_groups) for _ in range(NUM_BOOTSTRAP)]
    weight_BE = np.array([np.bincount(draw_G, minlength=num_groups)[group_index] for draw_G in draws_BG], float)
    drop_B = _auroc_of_draws(old_EC, class_E, weight_BE) - _auroc_of_draws(new_EC, class_E, weight_BE)
    drop_B = drop_B[np.isfinite(drop_B)]
    return old - new, len(drop_B) >= NUM_BOOTSTRAP // 2 and float(np.quantile(drop_B, 0.05)) > 0.0


def _auroc_of_draws(prob_EC: np.ndarray, class_E: np.ndarray, weight_BE: np.ndarray) -> np.ndarray:
    """`oof_auroc` of B draws of patients, each by how often it holds every scan, (B,); NaN where one class only.

    As one array operation: a round compares 200 draws, and a library call for each would take longer than its training.
    """
    classes = range(prob_EC.shape[1])
    area_CB = np.array([RankOrder(prob_EC[:, c], class_E == c).areas(weight_BE)[0] for c in classes])
    return ratio(np.nansum(area_CB, axis=0), np.isfinite(area_CB).sum(axis=0).astype(float))
