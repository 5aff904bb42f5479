"""Which scans of the training pool show a picture first, and of which pictures an expert may still be asked.

Shapes: N scans of the training pool.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import DUPLICATES, POOL_LABELS
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext


@dataclass(frozen=True)
class Pictures:
    """Pictures rather than scans: a copy shows nothing that is not known.

    Attributes:
        first_N: Whether a scan is the first of the pool that shows its picture.
        answered_N: Whether an expert has answered its picture, by whichever copy.
        askable_N: Whether it may be asked: first of a picture without an answer; of an oracle run, with a label.
    """

    first_N: np.ndarray
    answered_N: np.ndarray
    askable_N: np.ndarray


def pictures_of(ctx: StageContext, ids_N: pa.Array | pa.ChunkedArray, labelled: Collection[str]) -> Pictures:
    """What scans of the training pool show.

    Args:
        ctx: The run.
        ids_N: image_id of each scan, in manifest order.
        labelled: Scans that an expert has answered.
    """
    duplicates = run_files.read(ctx.folder, DUPLICATES, ["image_id", "canonical_id"])
    position = pc.index_in(ids_N, value_set=duplicates["image_id"].combine_chunks())
    canonical_N = duplicates["canonical_id"].take(position)
    in_labelled = pc.is_in(duplicates["image_id"], value_set=pa.array(sorted(labelled), pa.string()))
    known = pc.unique(duplicates["canonical_id"].filter(in_labelled))
    answered_N = np.asarray(pc.is_in(canonical_N, value_set=known))
    first_N = np.zeros(len(ids_N), bool)
    first_N[np.unique(canonical_N.to_numpy(zero_copy_only=False).astype(str), return_index=True)[1]] = True
    askable_N = first_N & ~answered_N
    if ctx.config.oracle:
        truth = POOL_LABELS.read(ctx.folder)
        answerable = truth.filter(pc.is_valid(truth["label"]))["image_id"].combine_chunks()
        askable_N &= np.asarray(pc.is_in(ids_N, value_set=answerable))
    return Pictures(first_N, answered_N, askable_N)
