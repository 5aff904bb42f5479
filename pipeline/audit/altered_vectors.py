"""What the run's backbone makes of altered scans, in the order of a table; kept in a store of their own.

Legend: N scans of the table asked for, D dimensions.
"""

import logging

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embeddings.alterations.alteration import Alteration
from embeddings.decoding.picture_keys import by_picture
from pipeline.runtime.context import StageContext
from pipeline.vectors import embed

_log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_MATRIX = "audit_pixels.npy"  # there only while vectors are gathered


def prepare(ctx: StageContext, scans: pa.Table, alteration: Alteration) -> embed.Job:
    """What of these rows, `by_picture`, the backbone has yet to see; of several copies the first uri is read."""
    pairs = zip(scans["sha256"].to_pylist(), scans["uri"].to_pylist(), strict=True)
    unique = dict(reversed(list(pairs)))
    content = dict.fromkeys(scans["sha256"].to_pylist())
    return embed.prepare(ctx, [(sha, unique[sha]) for sha in content], alteration=alteration)


def measure(ctx: StageContext, scans: pa.Table, alteration: Alteration) -> tuple[Floats, NDArray[np.bool_]]:
    """Vectors (N, D) of altered scans and which scans have one; a scan that cannot be read is logged, and NaN."""
    scans = by_picture(scans)
    job = prepare(ctx, scans, alteration)
    ctx.progress("audit", 0, job.num_scans)
    broken = dict(embed.embed(ctx, job, lambda done: ctx.progress("audit", done, job.num_scans)))
    say_broken(broken)
    ok_N = np.array([sha not in broken for sha in scans["sha256"].to_pylist()], np.bool_)
    return gather(ctx, job, scans, ok_N), ok_N


def gather(ctx: StageContext, job: embed.Job, scans: pa.Table, ok_N: NDArray[np.bool_]) -> Floats:
    """The vectors (N, D) of a finished job's rows, `by_picture`, NaN where `ok_N` is False."""
    if not ok_N.any():
        return np.empty((len(scans), 0), np.float32)
    path, kept = ctx.folder / _MATRIX, scans.filter(pa.array(ok_N))
    content = list(zip(kept["sha256"].to_pylist(), kept["uri"].to_pylist(), strict=True))
    stored_ND = embed.gather(ctx, job, content, path)
    emb_ND = np.full((len(scans), stored_ND.shape[1]), np.nan, np.float32)
    emb_ND[ok_N] = stored_ND
    path.unlink()
    return emb_ND


def say_broken(broken: dict[str, str]) -> None:
    """Log how many scans could not be read, and why the first one could not.

    Args:
        broken: Content of each, and why.
    """
    if broken:
        first = next(iter(broken.values()))
        _log.warning("%d scans could not be read for the audit and are left out, first: %s", len(broken), first)
