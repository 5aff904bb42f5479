"""Scans that are none: colour pictures, noise, drawings, blanks, strips; and chests that lie against their kind.

Which way up a chest lies is said by the mean of the pool's other scans, as is which are like none of them: against
their kind, not against an idea of a chest. A pool of nothing but hands is not seen. What is far from all others in the
embedding must be more like them than what lies among them: a dark frame with something in its middle resembles a chest
at the size of a thumbnail, and an unusual chest can be far in the embedding; few are both.

Legend: R scans looked at, N all scans, K those with an embedding, F facts, X pixels of the grid.
"""

import math
from collections import Counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit import picture_facts
from pipeline.audit.audited_pool import Names, Subject
from pipeline.audit.check import Check, Table
from pipeline.audit.picture_facts import FACTS, GRID
from pipeline.vectors import remoteness

Floats = NDArray[np.float32]

MAX_COLOUR = 0.1  # mean difference of the channels, of 1; a tint or a coloured marker is less
MIN_CONTRAST = 0.1  # 5 to 95 % of the grey levels, of 1
MIN_NEIGHBOUR = 0.7  # correlation of neighbouring pixels of a thumbnail; noise has none
MIN_ENTROPY_BITS = 4.0  # of the grey levels; drawings have few
MAX_ELONGATION = 3.0
MIRROR = "mirrored against the others"
TURN_GAIN = 0.1  # of the correlation with the mean of the others: how much better another way up must be
# And, as parts of what the usual scan of the pool has: the gain of what it loses when it is turned so, and the likeness
# reached. An arm at one side makes a chest fit a little better lying; a hip fits some way up better than others.
TURN_PART, TURNED_LIKENESS_PART = 0.5, 0.5
# Correlation with the mean of the others, of all of it or of the middle: a white frame makes no other body part.
MIN_LIKE_OTHERS = 0.25
# Angle and distance to the nearest in the embedding (`vectors.remoteness`), as multiples of the usual ones, beyond
# which a scan must be so like the others.
REMOTE = ((1.2, 2.0, 0.5), (1.28, 2.9, 0.6))
MIDDLE_FROM = 4  # cells left out on each side
# Of the usual correlation with the others, whole and middle, at the other side of 0: white is black. A limb on a white
# ground reaches the first alone.
INVERTED_PART, INVERTED_MIDDLE_PART = 0.65, 0.5
# An opaque right lung can look like a heart on the right, as in this share of 2,400 scans of one hospital's children.
# Scans are called mirrored where there are more people than chance lets expect.
MIRRORED_BY_CHANCE, CHANCE = 0.0025, 0.05
# The score of a scan's left-right difference, in usual scores of the pool: the heart is on the other side. Of scans
# that were mirrored 7 of 10 lie beyond it.
MIRRORED = -0.75
NUM_PARTS = 5  # of the scans; the weights that a scan's score is taken with have not seen its part
RIDGE = 1.0  # of the usual variance, added to that of every pixel
TINY = 1e-12
# Median of the correlation of a left-right difference with that of the others, below which a pool has no side in common
# and nothing is called mirrored. Of upright scans it is .42 for children of one hospital, where planted mirrors were
# seen; of films of adults .17 to .25, where none was.
MIN_COMMON_SIDE = 0.3
MIN_SCANS = 20  # for a mean of the others


def check(subject: Subject) -> Check:
    """Scans that look like no upright chest, where they are more than `audit.warn_not_chest_share`."""
    check_id = "not-chest-x-rays"
    why = "What is no chest X-ray is learnt and scored as one, and one class often has more of it."
    fix = "Look at the scans shown; leave out what is no chest X-ray and turn upright what lies."
    rows = _rows(subject)
    if len(rows) == 0:
        return Check(check_id, "ok", "Not checked: audit.max_pictures is 0.", why, fix, checked=False)
    fact_RF, grid_RX = picture_facts.measure(subject.ctx, subject.scans.take(pa.array(rows)))
    seen_R = np.isfinite(fact_RF).all(axis=1)
    if not seen_R.any():
        return Check(check_id, "ok", "Not checked: no scan could be read again.", why, fix, checked=False)
    rows, fact_RF, grid_RX = rows[seen_R], fact_RF[seen_R], grid_RX[seen_R]
    reason_R = reasons(fact_RF, grid_RX, subject.view_N[rows] == "LL", _like_needed(subject, rows))
    if len(set(subject.person_N[rows[reason_R == MIRROR]])) < fewest_mirrored_people(len(rows)):
        reason_R[reason_R == MIRROR] = None
    odd = np.flatnonzero([reason is not None for reason in reason_R])
    share, limit = len(odd) / len(rows), subject.config.audit.warn_not_chest_share
    counts = Counter(reason_R[odd])
    listed = ", ".join(f"{num} {reason}" for reason, num in counts.most_common())
    sampled = f" {len(subject) - len(rows)} scans were not looked at." if len(rows) < len(subject) else ""
    return Check(
        check_id,
        "warn" if share > limit else "ok",
        (f"{len(odd)} of {len(rows)} scans may be no upright chest X-ray: {listed}." if len(odd) else "")
        + (f"All {len(rows)} scans look like upright chest X-rays." if not len(odd) else "")
        + sampled,
        why,
        fix,
        count=len(odd),
        value=share,
        threshold=limit,
        evidence=subject.evidence(rows[odd], [str(reason) for reason in reason_R[odd]]),
        table=Table(("what is wrong", "scans"), tuple(counts.most_common())) if counts else None,
    )


def reasons(
    fact_RF: Floats, grid_RX: Floats, is_lateral_R: NDArray[np.bool_], like_needed_R: Floats | None = None
) -> Names:
    """Why each scan may be no upright chest X-ray; None where nothing speaks against it.

    Args:
        fact_RF: Facts in the order of `picture_facts.FACTS`.
        grid_RX: Thumbnails of `picture_facts.grid`.
        is_lateral_R: Known to be lateral views, which no frontal chest fits.
        like_needed_R: Correlation with the others below which a scan is unlike them; None: `MIN_LIKE_OTHERS` of all.
    """
    if like_needed_R is None:
        like_needed_R = np.full(len(fact_RF), MIN_LIKE_OTHERS, np.float32)
    column = dict(zip(FACTS, fact_RF.T, strict=True))
    reason_R: Names = np.full(len(fact_RF), None, dtype=object)
    plain_R = np.ones(len(fact_RF), np.bool_)
    for reason, wrong_R in (
        ("long and thin", column["elongation"] > MAX_ELONGATION),  # first: squashed to a square it is nearly blank
        ("almost blank", column["contrast"] < MIN_CONTRAST),
        ("in colour", column["colour"] > MAX_COLOUR),
        ("noise", column["neighbour"] < MIN_NEIGHBOUR),
        ("of few grey levels, as a drawing", column["entropy_bits"] < MIN_ENTROPY_BITS),
    ):
        reason_R[wrong_R & plain_R] = reason
        plain_R &= ~wrong_R
    frontal = np.flatnonzero(plain_R & ~is_lateral_R)
    if len(frontal) >= MIN_SCANS:
        reason_R[frontal] = _positions(grid_RX[frontal], like_needed_R[frontal])
    return reason_R


def _like_needed(subject: Subject, rows: NDArray[np.int64]) -> Floats:
    """`like_needed` of rows of the subject; a scan without an embedding needs the least."""
    needed_R = np.full(len(rows), MIN_LIKE_OTHERS, np.float32)
    known, known_R = np.flatnonzero(subject.has_emb_N), subject.has_emb_N[rows]
    if len(known) >= MIN_SCANS:
        needed_R[known_R] = like_needed(subject.emb_ND, rows[known_R], known, subject.rng("pictures/reference"))
    return needed_R


def like_needed(
    emb_ND: Floats, rows_R: NDArray[np.int64], known_K: NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Correlation with the others below which scans are unlike them, (R,): more is needed far from all others.

    Args:
        emb_ND: Embeddings of the pool.
        rows_R: The scans looked at.
        known_K: All scans with an embedding.
        rng: Draws what is compared with in a large pool.
    """
    remote = remoteness.measure(emb_ND, rows_R, known_K, rng)
    needed_R = np.full(len(rows_R), MIN_LIKE_OTHERS, np.float32)
    for angle, distance, needed in REMOTE:
        needed_R[(remote.angle_R > angle) & (remote.distance_R > distance)] = needed
    return needed_R


def _positions(grid_RX: Floats, like_needed_R: Floats) -> Names:
    """Of pictures that may be radiographs: turned, mirrored, inverted, unlike all others; None where neither."""
    reason_R: Names = np.full(len(grid_RX), None, dtype=object)
    like_R4 = _like_the_others(grid_RX)
    turn_R = like_R4.argmax(axis=1)
    best_R, usual = like_R4.max(axis=1), float(np.median(like_R4[:, 0]))
    lost_4 = np.median(like_R4[:, :1] - like_R4[:, [0, 3, 2, 1]], axis=0)  # by a turn that each of the ways undoes
    turned_R = best_R - like_R4[:, 0] > np.maximum(TURN_GAIN, TURN_PART * lost_4[turn_R])
    turned_R &= best_R > TURNED_LIKENESS_PART * usual
    middle_R = _like_the_others(_middle(grid_RX))[:, 0]
    inverted_R = (like_R4[:, 0] < -INVERTED_PART * usual) & (-like_R4[:, 0] > best_R)
    inverted_R &= middle_R < -INVERTED_MIDDLE_PART * float(np.median(middle_R))
    if usual < MIN_LIKE_OTHERS or np.median(middle_R) <= 0:  # the pool has no usual picture to be turned against
        turned_R[:] = inverted_R[:] = False
    unlike_R = np.maximum(like_R4[:, 0], middle_R) < like_needed_R
    reason_R[_mirrored(grid_RX)] = MIRROR
    reason_R[unlike_R] = "unlike all the others"
    for turns in (1, 2, 3):
        reason_R[turned_R & (turn_R == turns)] = f"turned by {90 * turns} degrees"
    reason_R[inverted_R] = "inverted against the others"
    return reason_R


def _middle(grid_RX: Floats) -> Floats:
    """Thumbnails without their margins, of mean 0 and norm 1."""
    inside = slice(MIDDLE_FROM, -MIDDLE_FROM)
    middle_RX = grid_RX.reshape(-1, GRID, GRID)[:, inside, inside].reshape(len(grid_RX), -1)
    middle_RX = middle_RX - middle_RX.mean(axis=1, keepdims=True)
    return np.asarray(middle_RX / np.maximum(np.linalg.norm(middle_RX, axis=1, keepdims=True), 1e-6), np.float32)


def _like_the_others(grid_RX: Floats) -> Floats:
    """Correlation with the mean of the other scans, as it is and after quarter turns, (R, 4)."""
    others_RX = grid_RX.sum(axis=0) - grid_RX
    others_RX /= np.maximum(np.linalg.norm(others_RX, axis=1, keepdims=True), 1e-6)
    side = math.isqrt(grid_RX.shape[1])
    turned = [np.rot90(grid_RX.reshape(-1, side, side), turns, axes=(1, 2)) for turns in range(4)]
    return np.stack([(side.reshape(len(grid_RX), -1) * others_RX).sum(axis=1) for side in turned], axis=1)


def fewest_mirrored_people(num_scans: int) -> int:
    """How many people must have a scan that looks mirrored, so that it is no chance."""
    from scipy.stats import poisson  # takes a second to import

    return max(2, int(poisson.isf(CHANCE, MIRRORED_BY_CHANCE * num_scans)) + 1)


def _mirrored(grid_RX: Floats) -> NDArray[np.bool_]:
    """Whether the left-right difference of a scan is the reverse of that of the others; none where they share none.

    Mirrored scans have the differences of the others, reversed: what tells the two best is Fisher's discriminant, the
    mean difference held against how differences vary. So a lung that is opaque in some, which varies much, counts less
    than the place of the heart.

    Source: Fisher 1936.
    """
    picture_RGG = grid_RX.reshape(-1, GRID, GRID)
    difference_RX = (picture_RGG - picture_RGG[:, :, ::-1])[:, :, : GRID // 2].reshape(len(grid_RX), -1)
    difference_RX = difference_RX / np.maximum(np.linalg.norm(difference_RX, axis=1, keepdims=True), 1e-6)
    others_RX = difference_RX.sum(axis=0) - difference_RX
    others_RX /= np.maximum(np.linalg.norm(others_RX, axis=1, keepdims=True), 1e-6)
    if np.median((difference_RX * others_RX).sum(axis=1)) < MIN_COMMON_SIDE:
        return np.zeros(len(grid_RX), np.bool_)
    return _scores_of_sides(difference_RX.astype(np.float64)) < MIRRORED


def _scores_of_sides(difference_RX: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each scan the discriminant that the others give, as a multiple of their mean."""
    part_R = np.arange(len(difference_RX)) % NUM_PARTS
    score_R = np.empty(len(difference_RX))
    for part in range(NUM_PARTS):
        other_OX = difference_RX[part_R != part]
        mean_X, covariance_XX = other_OX.mean(axis=0), np.cov(other_OX.T)
        ridge = RIDGE * np.trace(covariance_XX) / len(mean_X)
        covariance_XX[np.diag_indices_from(covariance_XX)] += max(ridge, TINY)  # of one picture alone nothing varies
        weight_X = np.linalg.solve(covariance_XX, mean_X)
        score_R[part_R == part] = difference_RX[part_R == part] @ weight_X / (mean_X @ weight_X)
    return score_R


def _rows(subject: Subject) -> NDArray[np.int64]:
    """Half of those to look at are the farthest from any other in the embedding, half are drawn at random."""
    limit = subject.config.audit.max_pictures
    if len(subject) <= limit:
        return np.arange(len(subject), dtype=np.int64)
    order = subject.rng("pictures").permutation(len(subject))
    if not subject.has_emb_N.any():
        return np.sort(order[:limit])
    centred_ND = subject.emb_ND - subject.emb_ND[subject.has_emb_N].mean(axis=0)
    far_N = np.linalg.norm(centred_ND / np.maximum(centred_ND.std(axis=0), 1e-6), axis=1)
    farthest = np.argsort(-far_N, kind="stable")[: limit // 2]
    rest = order[~np.isin(order, farthest)][: limit - len(farthest)]
    return np.sort(np.concatenate([farthest, rest]))
