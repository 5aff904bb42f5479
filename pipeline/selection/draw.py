"""What the experts see next: representatives, a uniformly random slice, and checks of a frozen release, both blind.

The uniform slice alone estimates prevalence, because labels an algorithm chose are not a sample of the pool. Whatever a
number is read from is drawn by scan, without a rule for patients: a uniform draw from a finite list needs no
independence, and one scan a patient would draw patients with many scans too rarely. The rule is for representatives,
which should not repeat each other. Representatives are sought where no pseudo-label has
been accepted yet, and not beside scans that experts held to be no good: an expert's minute is not spent on either.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.config import Config
from pipeline.contracts.finding_line import leaves_open
from pipeline.contracts.tables import POOL_LABELS, QUEUE, RELEASE_CHECK, REPORT_CHECK, SPLIT_TABLE, WISHED
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.selection import grown_parts, strategies
from pipeline.selection.knowledge import knowledge_of
from pipeline.selection.pictures import pictures_of
from pipeline.selection.pool import Pick, SelectionPool, quarantined
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors, units_and_lengths

# N scans of the training pool

log = logging.getLogger(__name__)
CHUNK = 8192  # candidates compared at once


@dataclass(frozen=True)
class Proposals:
    """Pseudo-labels of the round before: what the next queue checks and where it need not look.

    Attributes:
        finding: image_id to the class proposed, for every accepted scan; None where each finding has its own.
        settled: Scans of which nothing is left open, by a pseudo-label or a report; None: every accepted scan.
        checks: Scans of a frozen release that are to be checked next, in their order; see `learn.releases`.
        reported: Scans whose radiology reports say what experts have not checked enough.
    """

    finding: Mapping[str, str | None]
    settled: frozenset[str] | None = None
    checks: tuple[str, ...] = ()
    reported: frozenset[str] = frozenset()


def selection_pool(ctx: StageContext, labelled: set[str]) -> SelectionPool:
    """The training pool, with the candidates that may be asked: unlabelled, one scan of each picture.

    Scans are alike by the backbone's own embedding, centred on the training pool; one without a finite vector is left
    out and named.
    """
    vectors = Vectors.open(ctx.folder)
    splits = run_files.read(ctx.folder, SPLIT_TABLE, ["image_id", "group_id", "split"])
    train = splits.filter(pc.and_(pc.equal(splits["split"], "train"), vectors.has(splits["image_id"])))
    ids = train["image_id"]
    group_N = pc.dictionary_encode(train["group_id"]).combine_chunks().indices.to_numpy().astype(np.int64)
    similar_NP = principal_components.load_similarity(ctx.folder)
    unit_ND, length_N = units_and_lengths(similar_NP, rows_M=vectors.positions(ids))
    pool = SelectionPool(
        ids_N=ids.to_numpy(zero_copy_only=False).astype(str),
        unit_ND=unit_ND,
        length_N=length_N,
        labelled_N=pc.is_in(ids, value_set=pa.array(sorted(labelled), pa.string())).to_numpy(zero_copy_only=False),
        candidate_N=pictures_of(ctx, ids, labelled).askable_N,
        group_N=group_N,
        config=ctx.config.strategy,
    )
    return quarantined(pool)


def draw(
    ctx: StageContext,
    round_index: int,
    labelled: set[str],
    proposals: Proposals,
    *,
    strategy: str,
    holdout: Sequence[str] = (),
    second_looks: Sequence[tuple[str, str]] = (),
    rejected: Collection[str] = (),
    wished: Sequence[str] = (),
) -> pa.Table:
    """Draw the queue of a round.

    Args:
        ctx: The stage's context.
        round_index: From 1.
        labelled: Scans any expert has answered.
        proposals: Accepted pseudo-labels of the round before.
        strategy: Name of the strategy for the representatives.
        holdout: Scans of the sealed holdout that are asked for along with this queue.
        second_looks: Answered scans to ask again, out of the same budget, each with its kind.
        rejected: Answered scans that are no good; what lies nearest to them is not chosen as a representative.
        wished: Scans that people wished for, the first wishes first; they take the place of representatives.

    Returns:
        A table of the `QUEUE` contract in random order of kinds, so that the order tells nothing.
    """
    pool = selection_pool(ctx, labelled)
    if strategy != "random":  # which would look at nothing
        pool = knowledge_of(ctx, round_index, pool)
    rng = ctx.rng(f"queue-{strategy}", round_index)
    budget = min(ctx.config.queue.budget - len(second_looks), int(pool.candidate_N.sum()))
    wished = _askable(pool, ctx.config, wished, budget)
    sources = _sources(pool, proposals, rejected)
    owed = _owed(ctx, pool, labelled)
    num_owed = 0 if strategy == "random" else _num_payable(owed, sources[0].candidate_N)
    rows = _blind(pool, ctx.config, proposals, budget, strategy, rng, len(wished), num_owed)
    rows += _wished(wished, budget, [pick for pick, _ in rows])
    rows += _representatives(sources, strategy, budget, [pick for pick, _ in rows], rng, owed)
    rows += [(Pick(image_id), "holdout") for image_id in holdout]
    rows += [(Pick(image_id), kind) for image_id, kind in second_looks]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    asked = ctx.config.queue.budget
    if budget + len(second_looks) < asked:
        log.warning("round %d: %d scans are left to ask for, fewer than the budget of %d", round_index, budget, asked)
    return pa.table(
        {
            "image_id": [pick.image_id for pick, _ in rows],
            "rank": np.arange(1, len(rows) + 1, dtype=np.int32),
            "kind": [kind for _, kind in rows],
            "cluster": [pick.cluster for pick, _ in rows],
            "score": [pick.score for pick, _ in rows],
            "proposed": [proposals.finding.get(pick.image_id) for pick, _ in rows],
        },
        schema=QUEUE.schema,
    )


def _num_payable(owed: tuple[np.ndarray, np.ndarray], candidate_N: np.ndarray) -> int:
    """Labels that the parts of a grown pool lack of their share, as far as their open scans can give them."""
    part_N, missing_S = owed
    return int(np.minimum(missing_S, np.bincount(part_N[candidate_N], minlength=len(missing_S))).sum())


def _blind(
    pool: SelectionPool,
    config: Config,
    proposals: Proposals,
    budget: int,
    strategy: str,
    rng: np.random.Generator,
    num_wished: int,
    num_owed: int,
) -> list[tuple[Pick, str]]:
    """What stays blind: the next checks of a release, uniform in the pool, uniform among what was proposed.

    The uniform slice is drawn without a look at the checks, so that it stays a sample of the pool; a scan in both is a
    check as well, whatever it is called. Checks of a release wait while a part of a grown pool lacks labels and has
    open scans to ask about: their order is fixed, so nothing is lost but time.
    """
    num_checks = min(config.release.checks_in(budget), len(proposals.checks))
    if num_owed:
        num_checks = min(num_checks, max(budget - round(config.queue.uniform_share * budget) - num_owed, 0))
    left = budget - num_checks
    num_uniform = (
        left - min(num_wished, left) if strategy == "random" else min(round(config.queue.uniform_share * budget), left)
    )
    num_recheck = 0 if config.oracle else round(config.queue.recheck_share * budget)
    uniform = _uniformly(pool, num_uniform, rng)
    taken = set(uniform)
    checks = [i for i in proposals.checks if i not in taken][:num_checks]
    drawn = [*uniform, *checks]
    num_reported = min(round(config.reports.check_share * budget), budget - num_uniform - len(checks))
    reported = _uniformly(_among(pool, proposals.reported, drawn), num_reported, rng)
    drawn += reported
    rechecks = _uniformly(_among(pool, proposals.finding, drawn), min(num_recheck, budget - len(drawn)), rng)
    blind = ((uniform, "uniform"), (checks, RELEASE_CHECK), (reported, REPORT_CHECK), (rechecks, "recheck"))
    return [(Pick(image_id), kind) for ids, kind in blind for image_id in ids]


def _among(pool: SelectionPool, ids: Collection[str], taken: Sequence[str]) -> SelectionPool:
    """The pool with those of its candidates that are among some scans and not taken yet."""
    own_N, taken_N = (np.isin(pool.ids_N, np.array(list(some) or [""])) for some in (ids, taken))
    return replace(pool, candidate_N=pool.candidate_N & own_N & ~taken_N)


def _uniformly(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[str]:
    """Candidates drawn uniformly without replacement, whosever they are."""
    rows = rng.permutation(np.flatnonzero(pool.candidate_N))[:num]
    return [str(image_id) for image_id in pool.ids_N[rows]]


def _askable(pool: SelectionPool, config: Config, wished: Sequence[str], budget: int) -> list[str]:
    """What people wished for, as far as it may be asked and fits into its share of the budget."""
    candidates = set(pool.ids_N[pool.candidate_N].tolist())
    num = min(int(config.queue.wished_share * config.queue.budget), budget)
    return [image_id for image_id in wished if image_id in candidates][:num]


def _wished(askable: Sequence[str], budget: int, taken: Sequence[Pick]) -> list[tuple[Pick, str]]:
    """Wishes for the room that the blind slices leave, which come first: a scan in both counts as blind."""
    known = {pick.image_id for pick in taken}
    wishes = [image_id for image_id in askable if image_id not in known][: budget - len(taken)]
    return [(Pick(image_id), WISHED) for image_id in wishes]


def _sources(pool: SelectionPool, proposals: Proposals, rejected: Collection[str]) -> tuple[SelectionPool, ...]:
    """Where representatives are sought, in this order: among what is open, not beside rejected scans, anywhere."""
    settled = proposals.finding if proposals.settled is None else proposals.settled
    settled_N = np.isin(pool.ids_N, np.array(list(settled) or [""]))
    good = replace(pool, candidate_N=pool.candidate_N & ~_nearest_is(pool, rejected))
    return replace(good, candidate_N=good.candidate_N & ~settled_N), good, pool


def _owed(ctx: StageContext, pool: SelectionPool, labelled: set[str]) -> tuple[np.ndarray, np.ndarray]:
    """Part of each scan (N,), and labels that each part lacks of its share (S,)."""
    ids_N = pa.array(pool.ids_N, pa.string())
    part_N = record.part_of(ctx.folder, ids_N)
    if not part_N.any():
        return part_N, np.zeros(1, np.int64)
    pictures = replace(pictures_of(ctx, ids_N, labelled), askable_N=pool.candidate_N)
    return part_N, grown_parts.missing(part_N, pictures, ctx.config.queue.budget)


def _representatives(
    sources: Sequence[SelectionPool],
    strategy: str,
    budget: int,
    taken: list[Pick],
    rng: np.random.Generator,
    owed: tuple[np.ndarray, np.ndarray],
) -> list[tuple[Pick, str]]:
    """What the strategy chooses with the rest of the budget: first among what is open and not beside rejected scans.

    Of a run that has grown, what a part lacks of its share of labels is taken before all else, see `grown_parts`.
    """
    open_pool = sources[0]
    chosen: list[Pick] = []
    taken_N = np.isin(open_pool.ids_N, np.array([pick.image_id for pick in taken] or [""]))
    part_N, missing_S = owed
    for part in np.flatnonzero(missing_S)[::-1].tolist():
        num = min(int(missing_S[part]) - int((taken_N & (part_N == part)).sum()), budget - len(taken) - len(chosen))
        if num > 0:
            source = grown_parts.least_alike(open_pool, part_N, part, num)
            chosen += _at_most_one_patient(source, strategies.get(strategy), num, taken + chosen, rng)
    for source in sources:  # when all that is open was asked: go on among the settled
        left = budget - len(taken) - len(chosen)
        chosen += _at_most_one_patient(source, strategies.get(strategy), left, taken + chosen, rng)
    return [(pick, "representative") for pick in chosen]


def holdout_request(ctx: StageContext, labelled: set[str], part: int = record.OWN) -> list[str]:
    """Holdout scans to label when the pool brings too few labels for them: uniform by patient, one scan each.

    Patients with a labelled scan are not asked again; they count towards `queue.holdout_budget`. A label that leaves an
    independent finding open is none. Of a run that has grown each part is asked for by itself.
    """
    vectors = Vectors.open(ctx.folder)
    splits = run_files.read(ctx.folder, SPLIT_TABLE, ["image_id", "group_id", "split"])
    holdout = splits.filter(pc.and_(pc.equal(splits["split"], "holdout"), vectors.has(splits["image_id"])))
    holdout = holdout.filter(pa.array(record.part_of(ctx.folder, holdout["image_id"]) == part))
    truth = POOL_LABELS.read(ctx.folder)
    whole = [label for label in pc.unique(truth["label"]).to_pylist() if label is not None and not leaves_open(label)]
    is_known = pc.is_in(truth["label"], value_set=pa.array(whole, pa.string()))
    known = set(truth.filter(is_known)["image_id"].to_pylist()) | labelled
    by_group: dict[str, list[str]] = {}
    done: set[str] = set()
    for image_id, group in zip(holdout["image_id"].to_pylist(), holdout["group_id"].to_pylist(), strict=True):
        by_group.setdefault(group, []).append(image_id)
        if image_id in known:
            done.add(group)
    rng = ctx.rng("holdout-request", part)
    groups = sorted(set(by_group) - done)
    num = max(0, ctx.config.queue.holdout_budget - len(done))
    if len(groups) < num and groups:
        log.warning(
            "the holdout has scans of %d patients to ask for, fewer than the %d of queue.holdout_budget: "
            "one scan of each is asked for",
            len(groups),
            num,
        )
    order = rng.permutation(len(groups))[:num]
    return [by_group[groups[i]][int(rng.integers(len(by_group[groups[i]])))] for i in order]


def _at_most_one_patient(
    pool: SelectionPool, strategy: strategies.Strategy, num: int, taken: list[Pick], rng: np.random.Generator
) -> list[Pick]:
    """Up to `num` picks besides `taken`; a patient once a queue, again only when the pool runs out of patients."""
    if num <= 0:
        return []
    taken_N = np.isin(pool.ids_N, np.array([pick.image_id for pick in taken] or [""]))
    return strategy(pool.queue(taken_N), num, rng)


def _nearest_is(pool: SelectionPool, rejected: Collection[str]) -> np.ndarray:
    """Candidates whose nearest answered scan, by cosine, is one of `rejected`; a mask (N,)."""
    near_N = np.zeros(len(pool.ids_N), bool)
    answered_A = np.flatnonzero(pool.labelled_N)
    bad_A = np.isin(pool.ids_N[answered_A], np.array(list(rejected) or [""]))
    if not bad_A.any():
        return near_N
    open_ = np.flatnonzero(pool.candidate_N)
    for rows in np.array_split(open_, max(1, len(open_) // CHUNK)):
        near_N[rows] = bad_A[(pool.unit_ND[rows] @ pool.unit_ND[answered_A].T).argmax(axis=1)]
    return near_N
