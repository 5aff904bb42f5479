"""One person or two? What the pictures under one patient id say, held against the pool's own pairs.

Two films of one person share bones and build, so they look more alike than films of two people. How much more
differs from pool to pool, so every pool is its own yardstick: pairs that nothing but the visit tells apart (one
id, source, file-name series and side of the split) against pairs of strangers of the same label, source, view and
series. An id alone is seldom decided by that; the share of many ids that hold several people is, with an interval.

Measured as AUROC of one pair, one person against two: .86 bacterial, .90 viral pneumonia (Kermany's children),
.88 NIH adults, .99 phantoms. The embedding alone gives .82, .87, .86, the outlines alone .82, .87, .81.

Legend: N usable scans, M pictures looked at, F features of a look, P pairs, I ids, C cells, S side in pixels.
"""

import logging
import re
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embeddings.decoding.unusable import DecodeError
from embeddings.shrunk.read_shrunk import square_of
from pipeline.audit.audited_pool import Names, Subject, known

_log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MIN_IDS = 5  # ids that a share is estimated from
_SURE_ODDS = 19.0
_MIN_REFERENCE_IDS = 20
_MIN_PERSONS = 40
_MIN_AUROC = 0.7
_MIN_CELL_PERSONS = 20
_MAX_IDS = 400  # of each kind: in two sides of the split, with another difference, with none
_MAX_SCANS_AN_ID = 6
_MAX_OTHERS = 600
_COHORT = 48
_NUM_AXES = 128
_SIDE_PX, _CELL_PX, _NUM_ANGLES = 96, 8, 9
_BLUR_CELLS = 0.5  # neighbouring cells share an edge; without it the AUROC is .01 lower
_NUM_BOOTSTRAP = 2000


@dataclass(frozen=True)
class Judgement:
    """What the pictures say of a set of ids.

    Attributes:
        patient_I: The ids.
        odds_I: How many times likelier the pictures are if the id holds two people rather than one; no stronger
            than the number of reference ids supports.
        share: Part of the ids that hold several people, 0..1; an estimate of the whole, not a count of the ids told.
        low, high: Its interval, by bootstrap of ids.
        auroc: Of telling a pair of one person from a pair of strangers, in the reference.
        unable: Why the pictures cannot tell; None where they can.
    """

    patient_I: Names
    odds_I: NDArray[np.float64]
    share: float = float("nan")
    low: float = 0.0
    high: float = 1.0
    auroc: float = float("nan")
    unable: str | None = None

    @property
    def can_tell(self) -> bool:
        """Whether the pictures can tell people apart here, and there are ids enough for a share."""
        return self.unable is None and len(self.patient_I) >= MIN_IDS

    def together(self) -> Names:
        """Ids that hold one person, each at 19 to 1 or better given the share of all."""
        return self.patient_I[:0] if self.unable else self.patient_I[self._posterior_odds() <= 1 / _SURE_ODDS]

    def _posterior_odds(self) -> NDArray[np.float64]:
        prior = min(max(self.share, 0.01), 0.99) if self.can_tell else 0.5
        odds_I: NDArray[np.float64] = self.odds_I * prior / (1 - prior)
        return odds_I


@dataclass(frozen=True)
class People:
    """Pairs of pictures under one id and how alike they are, in units of strangers' spread.

    Attributes:
        subject: The pool.
        left_P, right_P: Rows of the subject.
        alike_P: Likeness; strangers have mean 0 and standard deviation 1.
        stranger_P: Likeness of the left picture and a stranger from the right one's cell.
        series_N: The file's path without its digits: files named in one manner.
        plain_P: Nothing but the visit is known to differ.
        num_left_out: Ids with several pictures that the sample left out.
    """

    subject: Subject
    left_P: Ints
    right_P: Ints
    alike_P: NDArray[np.float64]
    stranger_P: NDArray[np.float64]
    series_N: Names
    plain_P: Bools
    num_left_out: int = 0

    def differ(self, values_N: Names) -> Bools:
        """Pairs that differ in a value known of both."""
        known_N = known(values_N)
        return np.asarray(
            known_N[self.left_P] & known_N[self.right_P] & (values_N[self.left_P] != values_N[self.right_P]), np.bool_
        )

    def judge(self, tested_P: Bools, *, name: str, level: float = 0.95, reference_P: Bools | None = None) -> Judgement:
        """Whether the ids of these pairs hold one person or several.

        Args:
            tested_P: The pairs in question.
            name: Names the randomness of the interval.
            level: Of the interval.
            reference_P: Pairs taken to be of one person; the plain ones where not given.
        """
        reference_P = self.plain_P & ~tested_P if reference_P is None else reference_P
        patient_I, alike_I = self._by_id(tested_P)
        _, own_I = self._by_id(reference_P)
        stranger_P = self.stranger_P[reference_P]
        even = Judgement(patient_I, np.ones(len(patient_I)))
        if len(own_I) < _MIN_REFERENCE_IDS:
            return _unable(even, f"only {len(own_I)} patients have pairs to learn from")
        auroc = self._auroc(reference_P)
        if auroc < _MIN_AUROC:
            return _unable(
                even, f"pairs of one person look hardly more alike than strangers (AUROC {auroc:.2f})", auroc
            )
        odds_I = _odds(alike_I, own_I, stranger_P)
        if len(patient_I) < MIN_IDS:
            return Judgement(patient_I, odds_I, auroc=auroc)
        rng = self.subject.rng(f"persons/{name}")
        drawn = [rng.choice(sample, (_NUM_BOOTSTRAP, len(sample))).mean(axis=1) for sample in (alike_I, own_I)]
        zero = float(stranger_P.mean())
        shares = np.clip(1 - (drawn[0] - zero) / np.maximum(drawn[1] - zero, 1e-9), 0, 1)
        share = float(np.clip(1 - (alike_I.mean() - zero) / max(own_I.mean() - zero, 1e-9), 0, 1))
        low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
        return Judgement(patient_I, odds_I, share, float(low), float(high), auroc)

    def _by_id(self, mask_P: Bools) -> tuple[Names, NDArray[np.float64]]:
        patient_I, id_P = np.unique(self.subject.patient_N[self.left_P[mask_P]].astype(str), return_inverse=True)
        total_I = np.bincount(id_P, self.alike_P[mask_P], minlength=len(patient_I))
        return patient_I.astype(object), total_I / np.maximum(np.bincount(id_P, minlength=len(patient_I)), 1)

    def _auroc(self, mask_P: Bools) -> float:
        from sklearn.metrics import roc_auc_score

        _, id_P, pairs_I = np.unique(
            self.subject.patient_N[self.left_P[mask_P]].astype(str), return_inverse=True, return_counts=True
        )
        weight_P = 1 / pairs_I[id_P]  # every id counts once
        truth = np.repeat([1, 0], len(weight_P))
        scores = np.concatenate([self.alike_P[mask_P], self.stranger_P[mask_P]])
        return float(roc_auc_score(truth, scores, sample_weight=np.tile(weight_P, 2)))


def look_at(subject: Subject) -> People | None:
    """Compare the pictures under each id; a large pool is sampled by id. None where there are too few patients."""
    series_N = np.array([re.sub(r"\d+", "#", path) for path in subject.path_N], dtype=object)
    rng = subject.rng("persons")
    rows_M, left_P, right_P, num_left_out = _sample(subject, series_N, rng)
    if not len(left_P) or len(np.unique(subject.patient_N[rows_M].astype(str))) < _MIN_PERSONS:
        return None
    look_MF = np.hstack([_comparable(part, rng) for part in (subject.embeddings(rows_M), _outlines(subject, rows_M))])
    at = np.searchsorted(rows_M, np.stack([left_P, right_P]))
    alike_P, stranger_P = _normalised(look_MF, _cells(subject, series_N, rows_M), subject.patient_N[rows_M], at, rng)
    people = People(subject, left_P, right_P, alike_P, stranger_P, series_N, np.zeros(len(left_P), np.bool_))
    apart_P = people.differ(subject.source_N) | people.differ(subject.side_N) | people.differ(series_N)
    return replace(people, plain_P=~apart_P, num_left_out=num_left_out)


def pictures(subject: Subject) -> Ints:
    """One scan of each picture whose patient is known; a picture under several ids says nothing of their people."""
    owners: dict[str, set[str]] = defaultdict(set)
    first: dict[str, int] = {}
    for row in np.flatnonzero(known(subject.patient_N)):
        owners[subject.canonical_N[row]].add(subject.patient_N[row])
        first.setdefault(subject.canonical_N[row], int(row))
    return np.array(sorted(row for picture, row in first.items() if len(owners[picture]) == 1), dtype=np.int64)


def _sample(subject: Subject, series_N: Names, rng: np.random.Generator) -> tuple[Ints, Ints, Ints, int]:
    """Rows to look at, ascending, the pairs among them that share an id, and how many ids were left out.

    A scan that lies turned looks like nobody's, its own person's included, and is left out.
    """
    scans: dict[str, list[int]] = defaultdict(list)
    for row in pictures(subject):
        if subject.has_emb_N[row] and not subject.turned_N[row]:
            scans[subject.patient_N[row]].append(int(row))
    several = [rng.permutation(rows)[:_MAX_SCANS_AN_ID] for rows in scans.values() if len(rows) > 1]
    others = [rows[0] for rows in scans.values() if len(rows) == 1]
    # Ids in two sides of the split are asked about most, then those with anything else that differs.
    kinds = np.array(
        [
            0
            if _varied(subject.side_N, rows)
            else 1
            if _varied(subject.source_N, rows) or _varied(series_N, rows)
            else 2
            for rows in several
        ]
    )
    chosen = [several[i] for kind in range(3) for i in rng.permutation(np.flatnonzero(kinds == kind))[:_MAX_IDS]]
    pairs = [(min(a, b), max(a, b)) for rows in chosen for k, a in enumerate(rows) for b in rows[k + 1 :]]
    left_P, right_P = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    some = rng.permutation(np.array(others, dtype=np.int64))[:_MAX_OTHERS]
    rows_M = np.unique(np.concatenate([left_P, right_P, some]))
    return rows_M, left_P, right_P, len(several) - len(chosen)


def _varied(values_N: Names, rows: Ints) -> bool:
    return len(set(values_N[rows]) - {None}) > 1


def _comparable(values_MF: Floats, rng: np.random.Generator) -> Floats:
    """Half-whitened unit rows, scaled so that dot products of random pairs have standard deviation 1."""
    from sklearn.decomposition import PCA

    from pipeline.vectors.matrix import unit_rows

    num_axes = min(_NUM_AXES, max(len(values_MF) // 4, 8), values_MF.shape[1])
    axes = PCA(num_axes, svd_solver="randomized", random_state=int(rng.integers(2**31)))
    part_MK = axes.fit_transform(values_MF)
    unit_MK = unit_rows(part_MK / np.sqrt(np.maximum(part_MK.std(axis=0), 1e-6)))
    left, right = rng.integers(len(unit_MK), size=(2, 4000))
    spread = (unit_MK[left] * unit_MK[right]).sum(axis=1)[left != right].std()
    scaled: Floats = (unit_MK / np.sqrt(max(float(spread), 1e-6))).astype(np.float32)
    return scaled


def _outlines(subject: Subject, rows_M: Ints) -> Floats:
    """The outline of each picture, zeros where it cannot be read any more."""
    outline_MF = np.zeros((len(rows_M), (_SIDE_PX // _CELL_PX) ** 2 * _NUM_ANGLES), np.float32)
    for i, row in enumerate(rows_M):
        try:
            outline_MF[i] = _outline(subject.uri_N[row], subject.sha256_N[row], subject.config.pool.max_pixels)
        except DecodeError as error:
            _log.warning("%s could be read by the manifest stage and cannot now: %s", subject.uri_N[row], error)
    return outline_MF


def _outline(uri: str, sha256: str, max_pixels: int) -> Floats:
    """Histograms of edge directions (Dalal & Triggs 2005): ribs, clavicles, heart; blind to contrast and inversion."""
    from scipy.ndimage import gaussian_filter

    square_SS = square_of(uri, _SIDE_PX, max_pixels, sha256, is_stored=False)[0]
    slope_y, slope_x = np.gradient(gaussian_filter(square_SS, 1.0))
    angle_SS = np.arctan2(slope_y, slope_x) % np.pi * (_NUM_ANGLES / np.pi)
    away_SSA = np.abs(angle_SS[:, :, None] - np.arange(_NUM_ANGLES))
    weight_SSA = np.clip(1 - np.minimum(away_SSA, _NUM_ANGLES - away_SSA), 0, None)
    edge_SSA = weight_SSA * np.hypot(slope_y, slope_x)[:, :, None]
    cells = _SIDE_PX // _CELL_PX
    cell_SSA = edge_SSA.reshape(cells, _CELL_PX, cells, _CELL_PX, _NUM_ANGLES).mean(axis=(1, 3))
    cell_SSA = gaussian_filter(cell_SSA, (_BLUR_CELLS, _BLUR_CELLS, 0))
    outline_F: Floats = (cell_SSA / np.sqrt((cell_SSA**2).sum(axis=2, keepdims=True) + 1e-4)).ravel()
    return outline_F


def _cells(subject: Subject, series_N: Names, rows_M: Ints) -> tuple[Ints, list[Ints]]:
    """Which strangers are comparable: of one label, source, view and series, or of fewer of these where those are rare.

    Returns:
        cell_M: The cell of each picture.
        member_C: Pictures (positions in M) of at least `_MIN_CELL_PERSONS` people for each cell; all, for cell 0.
    """
    levels: list[tuple[Names, ...]] = [
        (subject.source_N, subject.label_N, subject.view_N, series_N),
        (subject.source_N, subject.label_N),
    ]
    cell_M = np.zeros(len(rows_M), np.int64)
    member_C = [np.arange(len(rows_M))]
    for columns in levels:
        keys = np.array(["|".join(str(column[row]) for column in columns) for row in rows_M])
        open_M = cell_M == 0
        for key in np.unique(keys[open_M]):
            inside_M = keys == key
            if len(set(subject.patient_N[rows_M[inside_M]])) >= _MIN_CELL_PERSONS:
                cell_M[inside_M & open_M] = len(member_C)
                member_C.append(np.flatnonzero(inside_M))
    return cell_M, member_C


def _normalised(
    look_MF: Floats, cells: tuple[Ints, list[Ints]], patient_M: Names, at_2P: Ints, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Likeness of the pairs, and of each left picture with a stranger, in units of what strangers have.

    Each picture is compared with a cohort of the other's cell, and the two views are averaged (symmetric score
    normalisation of speaker verification, Auckenthaler et al. 2000).
    """
    cell_M, member_C = cells
    _, code_M = np.unique(patient_M.astype(str), return_inverse=True)
    mean_MC, std_MC = (np.zeros((len(look_MF), len(member_C))) for _ in range(2))
    for c, members in enumerate(member_C):
        mixed = rng.permutation(members)
        cohort = rng.permutation(mixed[np.unique(code_M[mixed], return_index=True)[1]])[:_COHORT]
        dot_MK = np.ma.masked_array(look_MF @ look_MF[cohort].T, code_M[:, None] == code_M[cohort])
        mean_MC[:, c] = dot_MK.mean(axis=1).filled(0.0)
        std_MC[:, c] = np.maximum(dot_MK.std(axis=1).filled(1.0), 1e-6)

    def score(left_P: Ints, right_P: Ints) -> NDArray[np.float64]:
        dot_P = (look_MF[left_P] * look_MF[right_P]).sum(axis=1)
        sides = ((left_P, cell_M[right_P]), (right_P, cell_M[left_P]))
        both: NDArray[np.float64] = np.mean([(dot_P - mean_MC[side]) / std_MC[side] for side in sides], axis=0)
        return both

    left_P, right_P = at_2P
    stranger_P = np.zeros_like(right_P)
    for p, right in enumerate(right_P):
        members = member_C[cell_M[right]]
        stranger_P[p] = rng.choice(members[code_M[members] != code_M[right]])
    return score(left_P, right_P), score(left_P, stranger_P)


def _odds(
    alike_I: NDArray[np.float64], own_I: NDArray[np.float64], stranger_P: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Likelihood ratio of two people to one by two normal distributions, flat beyond either mean."""
    from scipy.stats import norm

    mean_own, mean_stranger = float(own_I.mean()), float(stranger_P.mean())
    inside_I = np.clip(alike_I, min(mean_stranger, mean_own), max(mean_stranger, mean_own))
    log_I = norm.logpdf(inside_I, mean_stranger, stranger_P.std()) - norm.logpdf(inside_I, mean_own, own_I.std())
    most = np.log(len(own_I))
    odds_I: NDArray[np.float64] = np.exp(np.clip(log_I, -most, most))
    return odds_I


def _unable(judgement: Judgement, why: str, auroc: float = float("nan")) -> Judgement:
    return Judgement(judgement.patient_I, judgement.odds_I, auroc=auroc, unable=why)
