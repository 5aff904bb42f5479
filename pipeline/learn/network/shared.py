"""One network for several questions: a scan goes through it once, and each question has logits of its own.

Each question brings the folds, the student and the soft targets that its own network would have; patients are in the
same fold in all. An answer that is not known, or that the gate keeps out, has weight 0 in the loss. A question with two
classes is one sigmoid, of the difference of its two logits, so that whatever judges and exports a network of one
question does the same with its part of this one.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import chain

import numpy as np

from pipeline.contracts.config import Config
from pipeline.learn.lesson import Lesson, StoppingSet, sampled
from pipeline.learn.network import student
from pipeline.learn.network.adapter import Adapter
from pipeline.learn.network.fits import Fold
from pipeline.learn.network.student import FrozenHeads, NetworkStudent
from pipeline.learn.scan_rows import ScanRows
from pipeline.learn.shared_folds import shared_stopping_masks

# N scans with a vector, T of them in the training pool, E labelled by experts for one question, L to learn from, H held
# out, V to stop by, Q questions, C classes of each

log = logging.getLogger(__name__)


def adapted(
    adapter: Adapter, heads: Mapping[str, FrozenHeads], config: Config, rngs: Mapping[str, np.random.Generator]
) -> dict[str, NetworkStudent]:
    """Train the networks of a round for all questions at once; each takes the mean with its student, or that alone.

    Args:
        adapter: Trains them.
        heads: What they start from, by question; the folds are those of `shared_folds`.
        config: Options.
        rngs: Of each question: seed of the networks, bootstrap of its comparison.
    """
    several = list(heads.values())
    seeds = [int(rngs[name].integers(2**31)) for name in heads]  # each draws one, as if it learned alone
    numbers = sorted(set(chain.from_iterable(of.fold_E.tolist() for of in several)))
    folds = [_fold(several, number, config, seeds[0]) for number in (*numbers, None)]
    *of_folds, whole = adapter.train(folds, seeds[0])

    @cache
    def logits() -> np.ndarray:
        return _by_question(adapter.predict(whole.trained), len(several))

    out = {}
    for question, (name, of) in enumerate(heads.items()):
        oof_EC = np.empty_like(of.student.oof_logit_EC)
        for number, fold, fit in zip(numbers, folds[:-1], of_folds, strict=True):
            mine_E = of.fold_E == number
            rows = fold.held_out.positions(of.material.expert_E.keep(mine_E))
            oof_EC[mine_E] = _by_question(fit.logit_HC, len(several))[rows, question]
        trained = whole.trained.of_question(question, oof_EC.shape[1])
        predict = partial(_logits_of, logits, question)
        out[name] = student.chosen(of, oof_EC, trained, whole.curves, predict, config, rngs[name])
    return out


def _logits_of(logits: Callable[[], np.ndarray], question: int) -> np.ndarray:
    """Logits (N, C) of one question."""
    return np.ascontiguousarray(logits()[:, question])


def _by_question(logit_NQC: np.ndarray, num_questions: int) -> np.ndarray:
    """Logits side by side (N, Q * C) as (N, Q, C)."""
    return logit_NQC.reshape(len(logit_NQC), num_questions, -1)


def _fold(several: Sequence[FrozenHeads], number: int | None, config: Config, seed: int) -> Fold:
    """What one network learns of all questions: all but one fold, or everything for `number` None."""
    materials = [heads.material for heads in several]
    learn = [heads.fold_E != (-1 if number is None else number) for heads in several]
    numbers = [_number_among(heads, number) for heads in several]
    stop = shared_stopping_masks(materials, learn, seed) if config.network.patience else None
    if stop is None and config.network.patience:
        log.info("no early stopping: some question would lose a class to the scans to stop by")
    pool_T = materials[0].pool_T
    lessons = [
        student.fold_lesson(heads, numbers[q], config, learn[q], stop[q] if stop else None, len(pool_T), seed)
        for q, heads in enumerate(several)
    ]
    held_out_T, expert_T = (np.zeros(len(pool_T), bool) for _ in range(2))
    for material, learn_E in zip(materials, learn, strict=True):
        held_out_T[material.expert_in_pool_E[~learn_E]] = True
        expert_T[material.expert_in_pool_E] = True
    return Fold(
        student.first_head(several, numbers, seed),
        joined(lessons, pool_T, held_out_T, expert_T, config.train.max_rows, seed),
        np.stack([heads.acceptance.learning_threshold_C for heads in several]),
        pool_T.keep(held_out_T),
    )


def _number_among(heads: FrozenHeads, number: int | None) -> int:
    """Which of a question's own fits did not see a fold; the one on everything (-1) where it has no label in it."""
    own = np.unique(heads.fold_E).tolist()
    return own.index(number) if number in own else -1


def joined(
    lessons: Sequence[Lesson[ScanRows]],
    pool_T: ScanRows,
    held_out_T: np.ndarray,
    expert_T: np.ndarray,
    max_scans: int,
    seed: int,
) -> Lesson[ScanRows]:
    """The lessons of several questions as one: every scan that teaches one of them, weight 0 where it teaches another.

    Args:
        lessons: Of each question, of scans of the training pool.
        pool_T: That pool.
        held_out_T: Scans that the network is to be judged by, which teach no question: a mask.
        expert_T: Scans with an expert's label for some question, which stay where the pool is sampled: a mask.
        max_scans: A larger pool is sampled.
        seed: Of that sample.
    """
    stops_T = np.zeros(len(pool_T), bool)
    for lesson in lessons:
        if lesson.stop is not None:
            stops_T |= pool_T.among(lesson.stop.scans)
    teaches_T = np.logical_or.reduce([pool_T.among(lesson.scans) for lesson in lessons]) & ~held_out_T & ~stops_T
    kept_T = sampled(teaches_T, expert_T, max_scans, seed)
    scans_L = pool_T.keep(kept_T)
    columns = [_along(scans_L, lesson) for lesson in lessons]
    target, weight, is_open = (np.stack(values, axis=1) for values in zip(*columns, strict=True))
    return Lesson(scans_L, target, weight, is_open, _stopping_set(lessons, pool_T.keep(stops_T)))


def _along(scans_L: ScanRows, lesson: Lesson[ScanRows]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A lesson's targets (L, C), weights (L,) and `open_L` along other scans; even targets of weight 0 elsewhere."""
    here = lesson.scans.among(scans_L)
    row = scans_L.positions(lesson.scans.keep(here))
    num, num_classes = len(scans_L), lesson.target_LC.shape[1]
    target_LC, weight_L, open_L = np.full((num, num_classes), 1.0 / num_classes), np.zeros(num), np.zeros(num, bool)
    target_LC[row], weight_L[row], open_L[row] = lesson.target_LC[here], lesson.weight_L[here], lesson.open_L[here]
    return target_LC, weight_L, open_L


def _stopping_set(lessons: Sequence[Lesson[ScanRows]], scans_V: ScanRows) -> StoppingSet[ScanRows] | None:
    """The scans to stop by of all questions, weight 0 where a question knows nothing of one."""
    stops = [lesson.stop for lesson in lessons if lesson.stop is not None]
    if not stops:
        return None
    num_classes = stops[0].target_VC.shape[1]
    target = np.full((len(scans_V), len(stops), num_classes), 1.0 / num_classes)
    weight = np.zeros((len(scans_V), len(stops)))
    for question, stop in enumerate(stops):
        row = scans_V.positions(stop.scans)
        target[row, question], weight[row, question] = stop.target_VC, stop.weight_V
    return StoppingSet(scans_V, target, weight)
