"""How well something tells something else: a classifier out of fold, patient-grouped, with an interval.

A probe is simple on purpose. It asks what can be read off, not what the best network would reach, and every probe of
a pool is asked the same way on the same scans.

Legend: R scans of the probe, M inputs, C classes, B bootstrap replicates.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.measures.bootstrap import effective_groups, ranking_interval
from pipeline.measures.folds import group_index, grouped_folds
from pipeline.measures.weighted_metrics import RankOrder
from pipeline.vectors.principal_components import floored_sd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["linear", "trees"]

NUM_FOLDS = 5
MIN_GROUPS = 8  # of a class; with fewer, no probe can tell anything
NUM_COMPONENTS = 128
INVERSE_PENALTY = 0.1  # of the linear probe
NUM_TREES = 100  # of a probe of few inputs of any scale
RMS_NORM = 10.0


@dataclass(frozen=True)
class Score:
    """AUROC of one class against the others.

    Attributes:
        auroc: Over all pairs of scans.
        auroc_ci95: Patient-cluster bootstrap interval; None where it cannot be had.
        within: The same over pairs of the same stratum (source): what the stratum alone gives away is not counted.
        within_ci95: Its interval.
        within_share: Part of the positives that have a pair in their own stratum, 0..1.
    """

    auroc: float
    auroc_ci95: list[float] | None
    within: float | None
    within_ci95: list[float] | None
    within_share: float
    num_positive: int
    num_scans: int
    num_groups: int

    @property
    def is_judged_within(self) -> bool:
        """Whether most positives can be compared within their own stratum."""
        return self.within is not None and self.within_share >= 0.5

    @property
    def fair(self) -> tuple[float, list[float] | None]:
        """The AUROC to judge by: within strata where that can be had, else over all."""
        if self.within is not None and self.is_judged_within:
            return self.within, self.within_ci95
        return self.auroc, self.auroc_ci95

    @property
    def lower(self) -> float:
        """Lower end of the fair interval; 0 where there is none."""
        interval = self.fair[1]
        return interval[0] if interval is not None else 0.0

    def to_json(self, finding: str, probe: str) -> dict[str, Any]:
        """A row of `shortcuts` in `audit.json`."""
        return {
            "finding": finding,
            "probe": probe,
            "auroc": self.auroc,
            "auroc_ci95": self.auroc_ci95,
            "auroc_within_source": self.within,
            "auroc_within_source_ci95": self.within_ci95,
            "num_positive": self.num_positive,
            "num_scans": self.num_scans,
            "num_groups": self.num_groups,
        }


def probe(
    x_RM: NDArray[Any],
    class_R: NDArray[Any],
    group_R: NDArray[Any],
    stratum_R: NDArray[Any] | None,
    *,
    kind: Kind,
    num_bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Score]:
    """Score of every class that has enough groups; empty where fewer than two have.

    Args:
        x_RM: Inputs; NaN is allowed for trees.
        class_R: Class of each scan.
        group_R: Scans of one group are never on both sides.
        stratum_R: For the AUROC within strata; None: not asked for.
        kind: linear for embeddings, trees for few inputs of any scale.
        num_bootstrap: Replicates of the interval.
        rng: Folds and replicates.
    """
    cases = comparable(class_R, group_R, stratum_R)
    if cases is None:
        return {}
    prob_KC = out_of_fold(x_RM[cases.kept_R], cases.code_K, cases.group_K, kind, rng)
    weight_BG = draws(cases.num_groups, num_bootstrap, rng)
    return {
        name: score(prob_KC[:, i], cases.code_K == c, cases.group_K, cases.stratum_K, weight_BG)
        for i, (c, name) in enumerate(cases.classes)
    }


@dataclass(frozen=True)
class Cases:
    """The scans a probe can be asked of: those of classes with enough groups.

    Attributes:
        kept_R: Whether a scan is one of them.
        code_K: Number of the class of each that is.
        group_K: Number 0.. of its group.
        stratum_K: Its stratum; None where strata are not asked for.
        classes: Number and name of each class, in order.
    """

    kept_R: NDArray[np.bool_]
    code_K: Ints
    group_K: Ints
    stratum_K: NDArray[Any] | None
    classes: tuple[tuple[int, str], ...]

    @property
    def num_groups(self) -> int:
        """Groups among the scans kept."""
        return int(self.group_K.max()) + 1


def comparable(class_R: NDArray[Any], group_R: NDArray[Any], stratum_R: NDArray[Any] | None) -> Cases | None:
    """The scans of classes that have `MIN_GROUPS` groups; None where fewer than two classes have."""
    names, code_R = np.unique(np.asarray(class_R, dtype=str), return_inverse=True)
    group_of_R = group_index(list(group_R))
    enough = [c for c in range(len(names)) if len(np.unique(group_of_R[code_R == c])) >= MIN_GROUPS]
    if len(enough) < 2:
        return None
    kept_R = np.isin(code_R, enough)
    return Cases(
        kept_R=kept_R,
        code_K=code_R[kept_R],
        group_K=group_index(list(group_of_R[kept_R])),
        stratum_K=None if stratum_R is None else np.asarray(stratum_R, dtype=str)[kept_R],
        classes=tuple((c, str(names[c])) for c in enough),
    )


def components(emb_RD: NDArray[np.float32]) -> Floats:
    """Leading principal components of embeddings, on one scale for every backbone: inputs of a linear probe.

    They know nothing of labels, so all scans of a probe may share them.
    """
    from scipy.linalg import eigh

    centred_RD = (emb_RD - emb_RD.mean(axis=0)).astype(np.float64)
    centred_RD /= floored_sd(centred_RD)
    num_scans, dim = centred_RD.shape
    smaller = min(num_scans, dim)
    gram = centred_RD @ centred_RD.T if num_scans < dim else centred_RD.T @ centred_RD
    value_P, vector_XP = eigh(gram, subset_by_index=[max(0, smaller - NUM_COMPONENTS), smaller - 1])
    scores_RP = vector_XP * np.sqrt(np.maximum(value_P, 0.0)) if num_scans < dim else centred_RD @ vector_XP
    norm = float(np.sqrt(np.square(centred_RD).sum(axis=1).mean()))
    return np.asarray(scores_RP[:, ::-1] * (RMS_NORM / max(norm, 1e-6)), np.float64)


def out_of_fold(
    x_KM: NDArray[Any],
    code_K: Ints,
    group_K: Ints,
    kind: Kind,
    rng: np.random.Generator,
    inverse_penalty: float = INVERSE_PENALTY,
) -> Floats:
    """Probabilities of the classes present, in order of their codes, each from folds without the scan's group."""
    columns = np.unique(code_K)
    local_K = np.searchsorted(columns, code_K)
    prob_KC = np.full((len(code_K), len(columns)), 1.0 / len(columns))
    fold_K = grouped_folds(group_K.tolist(), local_K, NUM_FOLDS, rng)
    for fold in np.unique(fold_K):
        test = fold_K == fold
        seen = np.unique(local_K[~test])
        if len(seen) < 2:
            continue
        prob_KC[np.ix_(test, seen)] = fit_predict(x_KM[~test], local_K[~test], x_KM[test], kind, inverse_penalty)
    return prob_KC


def fit_predict(
    x_TM: NDArray[Any], code_T: Ints, x_SM: NDArray[Any], kind: Kind, inverse_penalty: float = INVERSE_PENALTY
) -> Floats:
    """Probabilities of the classes in `code_T`, balanced, for other scans."""
    if kind == "trees":
        from sklearn.ensemble import ExtraTreesClassifier

        fill_M = _medians(x_TM)
        model: Any = ExtraTreesClassifier(
            NUM_TREES, min_samples_leaf=3, class_weight="balanced", random_state=0, n_jobs=1, max_features=None
        )
        model.fit(_filled(x_TM, fill_M), code_T)
        return np.asarray(model.predict_proba(_filled(x_SM, fill_M)), np.float64)
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(code_T)
    prob_SC = np.empty((len(x_SM), len(classes)))
    for i, c in enumerate(classes):  # one against the rest: what is asked, and many times faster than all at once
        model = LogisticRegression(C=inverse_penalty, class_weight="balanced", tol=1e-3, max_iter=1000)
        model.fit(x_TM, code_T == c)
        prob_SC[:, i] = model.predict_proba(x_SM)[:, 1]
        if len(classes) == 2:
            prob_SC[:, 1] = 1.0 - prob_SC[:, 0]
            break
    return np.asarray(prob_SC / prob_SC.sum(axis=1, keepdims=True), np.float64)


def score(
    score_K: Floats, positive_K: NDArray[np.bool_], group_K: Ints, stratum_K: Any | None, weight_BG: Floats
) -> Score:
    """AUROC of a score, over all pairs and within strata, with patient-cluster intervals."""
    weight_BK = weight_BG[:, group_K]
    informed = min(effective_groups(group_K, side_K) for side_K in (positive_K, ~positive_K))
    one_stratum_K = np.zeros(len(score_K), np.int64)
    auroc, auroc_ci = _area(score_K, positive_K, one_stratum_K, weight_BK, informed)
    share = 0.0 if stratum_K is None else _paired_share(positive_K, stratum_K)
    within, within_ci = None, None
    if share > 0:
        within, within_ci = _area(score_K, positive_K, np.asarray(stratum_K), weight_BK, informed)
    return Score(
        auroc=auroc,
        auroc_ci95=auroc_ci,
        within=within,
        within_ci95=within_ci,
        within_share=share,
        num_positive=int(positive_K.sum()),
        num_scans=len(score_K),
        num_groups=int(group_K.max()) + 1,
    )


def _area(
    score_K: Floats, positive_K: NDArray[np.bool_], stratum_K: NDArray[Any], weight_BK: Floats, informed: float
) -> tuple[float, list[float] | None]:
    """Share of right pairs within strata, and its interval.

    Of a perfect ranking all redraws agree, and what is left is an interval of so many people alone. It is never wider
    downwards than that of the same ranking with one pair wrong: who tells the label without an error is not less
    suspicious than who errs once.
    """
    value, interval = _plain_area(score_K, positive_K, stratum_K, weight_BK, informed)
    if value == 1.0 and interval is not None:
        worse_K = _one_pair_wrong(score_K, positive_K, stratum_K)
        one_wrong = _plain_area(worse_K, positive_K, stratum_K, weight_BK, informed)[1]
        if one_wrong is not None:
            interval = [max(interval[0], one_wrong[0]), interval[1]]
    return value, interval


def _plain_area(
    score_K: Floats, positive_K: NDArray[np.bool_], stratum_K: NDArray[Any], weight_BK: Floats, informed: float
) -> tuple[float, list[float] | None]:
    value = float(within_strata(score_K, positive_K, stratum_K, np.ones((1, len(score_K))))[0])
    return value, ranking_interval(value, within_strata(score_K, positive_K, stratum_K, weight_BK), informed)


def _one_pair_wrong(score_K: Floats, positive_K: NDArray[np.bool_], stratum_K: NDArray[Any]) -> Floats:
    """Scores of which the lowest positive and the highest negative of the largest mixed stratum have changed places."""
    mixed = [s for s in np.unique(stratum_K) if len(np.unique(positive_K[stratum_K == s])) == 2]
    largest = max(mixed, key=lambda s: int((stratum_K == s).sum()))
    inside = np.flatnonzero(stratum_K == largest)
    lowest = min(inside[positive_K[inside]], key=lambda row: score_K[row])
    highest = max(inside[~positive_K[inside]], key=lambda row: score_K[row])
    worse_K = score_K.copy()
    worse_K[[lowest, highest]] = score_K[[highest, lowest]]
    return worse_K


def within_strata(score_K: Floats, positive_K: NDArray[np.bool_], stratum_K: Any, weight_BK: Floats) -> Floats:
    """Share of right pairs among pairs of one stratum, (B,); NaN where there are none."""
    right_B, pairs_B = np.zeros(len(weight_BK)), np.zeros(len(weight_BK))
    for stratum in np.unique(stratum_K):
        of = stratum_K == stratum
        if positive_K[of].all() or not positive_K[of].any():
            continue
        area_B = RankOrder(score_K[of], positive_K[of]).areas(weight_BK[:, of])[0]
        num_B = weight_BK[:, of & positive_K].sum(axis=1) * weight_BK[:, of & ~positive_K].sum(axis=1)
        right_B += np.where(num_B > 0, np.nan_to_num(area_B) * num_B, 0.0)
        pairs_B += num_B
    return np.divide(right_B, pairs_B, out=np.full_like(right_B, np.nan), where=pairs_B > 0)


def _paired_share(positive_K: NDArray[np.bool_], stratum_K: Any) -> float:
    """Part of the positives with at least a tenth as many negatives in their own stratum."""
    paired = 0
    for stratum in np.unique(stratum_K):
        of = stratum_K == stratum
        num = int(positive_K[of].sum())
        if (~positive_K[of]).sum() >= max(1, 0.1 * num):
            paired += num
    return paired / max(int(positive_K.sum()), 1)


def draws(num_groups: int, num_bootstrap: int, rng: np.random.Generator) -> Floats:
    """How often each group is drawn in each replicate, (B, groups)."""
    return rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_bootstrap).astype(np.float64)


def with_interval(area: float, interval: list[float] | None) -> str:
    """`0.912 (0.871 to 0.943)`, in the sentences of a check."""
    return f"{area:.3f}" + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")


def _medians(x_RM: NDArray[Any]) -> Floats:
    """Median of what is known of each input; 0 where nothing is."""
    return np.array([np.median(column[known]) if (known := np.isfinite(column)).any() else 0.0 for column in x_RM.T])


def _filled(x_RM: NDArray[Any], fill_M: Floats) -> Floats:
    return np.where(np.isfinite(x_RM), x_RM, fill_M)
