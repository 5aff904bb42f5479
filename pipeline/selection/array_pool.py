"""Selection from plain arrays, without a run.

Legend: N scans, D dimensions, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.contracts.errors import InputError
from pipeline.contracts.options.labelling import StrategyConfig
from pipeline.selection import strategies
from pipeline.selection.pool import SelectionPool, quarantined
from pipeline.vectors.matrix import units_and_lengths


@dataclass(frozen=True)
class Arrays:
    """What is known of N scans.

    Attributes:
        embeddings: Vectors, (N, D).
        labelled: Scans that have labels, as a mask (N,) or as rows; None: those with a class.
        probabilities: Of a classifier, (N, C), rows that sum to 1; None: there is none.
        groups: Patient of each scan, (N,); None: each scan is somebody else's.
        classes: That experts gave, integers from 0 on, -1 where none, (N,); None: not known.
    """

    embeddings: ArrayLike
    labelled: ArrayLike | None = None
    probabilities: ArrayLike | None = None
    groups: Sequence[object] | None = None
    classes: ArrayLike | None = None


def select(arrays: Arrays, num: int, config: StrategyConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of the scans to label next, best first, (num,); fewer where fewer are open.

    Args:
        arrays: What is known of the scans. A row with a value that is not finite is never chosen.
        num: How many.
        config: The strategy and its options.
        rng: Of the draws.

    Raises:
        InputError: an array has the wrong shape, `num` is below 1, or no strategy has that name.
    """
    if num < 1:
        raise InputError("must be 1 or more", value=num, where="n", fix="ask for one scan or more")
    strategy = strategies.get(config.name)
    pool = quarantined(_pool(arrays, config))
    most = min(num, int(pool.candidate_N.sum()))
    picks = strategy(pool, most, rng) if most else []
    return np.array([int(pick.image_id) for pick in picks], np.int64)


def _pool(arrays: Arrays, config: StrategyConfig) -> SelectionPool:
    """The pool as strategies see it: centred on all scans, as a run centres on its training pool."""
    emb_ND = _matrix(arrays.embeddings, "embeddings")
    num = len(emb_ND)
    finite_N = np.isfinite(emb_ND).all(axis=1)
    prob_NC = None if arrays.probabilities is None else _matrix(arrays.probabilities, "probabilities", num)
    class_N = None if arrays.classes is None else _classes(arrays.classes, num, prob_NC)
    has_class_N = np.zeros(num, np.bool_) if class_N is None else class_N >= 0
    labelled_N = has_class_N if arrays.labelled is None else _mask(arrays.labelled, num) | has_class_N
    num_named = 0 if class_N is None else int(class_N.max(initial=-1)) + 1
    unit_ND, length_N = units_and_lengths(emb_ND, emb_ND[finite_N].mean(axis=0) if finite_N.any() else None)
    return SelectionPool(
        ids_N=np.arange(num).astype(str),
        unit_ND=unit_ND,
        length_N=length_N,
        labelled_N=labelled_N,
        candidate_N=~labelled_N,
        group_N=_numbered(arrays.groups, num),
        config=config,
        prob_NC=prob_NC,
        class_N=class_N,
        num_classes=max(2, num_named) if prob_NC is None else prob_NC.shape[1],
    )


def _matrix(values: ArrayLike, where: str, num: int | None = None) -> NDArray[np.float32]:
    """An array of numbers, (N, D).

    Raises:
        InputError: it is none, or has another number of rows than `num`.
    """
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"is no array of numbers ({error})", where=where, fix="give an array (N, D)") from error
    if array.ndim != 2 or (num is not None and len(array) != num):
        wanted = "two dimensions, one row a scan" if num is None else f"two dimensions and {num} rows"
        raise InputError("has another shape", value=array.shape, where=where, fix=f"give an array of {wanted}")
    return array


def _classes(classes: ArrayLike, num: int, prob_NC: NDArray[np.float32] | None) -> NDArray[np.int64]:
    """Class of each of N scans, -1 where none.

    Raises:
        InputError: they are no integers from -1 on, (N,), or name a class that has no column of probabilities.
    """
    array = np.asarray(classes)
    if array.shape != (num,):
        raise InputError("has another shape", value=array.shape, where="classes", fix=f"give integers ({num},)")
    if num and (array.dtype.kind not in "iu" or int(array.min()) < -1):
        raise InputError("are no classes", where="classes", fix="give integers from 0 on, and -1 where there is none")
    if num and prob_NC is not None and int(array.max()) >= prob_NC.shape[1]:
        raise InputError(
            f"names a class beyond the {prob_NC.shape[1]} columns of probabilities",
            value=int(array.max()),
            where="classes",
            fix="give a column of probabilities for every class",
        )
    return array.astype(np.int64)


def _mask(labelled: ArrayLike, num: int) -> NDArray[np.bool_]:
    """Which of N scans have labels."""
    mask_N = np.zeros(num, np.bool_)
    array = np.asarray(labelled)
    if array.dtype == np.bool_:
        if array.shape != (num,):
            raise InputError("has another shape", value=array.shape, where="labelled", fix=f"give a mask ({num},)")
        return array
    if array.size and (array.ndim != 1 or array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= num):
        raise InputError(
            "are no rows of the embeddings", where="labelled", fix=f"give a mask ({num},) or rows from 0 to {num - 1}"
        )
    mask_N[array.astype(np.int64)] = True
    return mask_N


def _numbered(groups: Sequence[object] | None, num: int) -> NDArray[np.int64]:
    """Patients as integers; without any, each scan is somebody else's."""
    if groups is None:
        return np.arange(num, dtype=np.int64)
    if len(groups) != num:
        raise InputError("has another length", value=len(groups), where="groups", fix=f"name {num} patients")
    number: dict[object, int] = {}
    return np.array([number.setdefault(group, len(number)) for group in groups], np.int64)
