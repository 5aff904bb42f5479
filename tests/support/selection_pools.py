"""Small pools for the tests of strategies."""

import numpy as np

from pipeline.contracts.options.labelling import StrategyConfig
from pipeline.selection.pool import SelectionPool
from pipeline.vectors.matrix import unit_rows


def pool_of(unit_ND, *, labelled=(), group=None, **options):
    """A pool of these rows; every scan that is not labelled is a candidate."""
    num = len(unit_ND)
    labelled_N = np.isin(np.arange(num), list(labelled))
    names = ("prob_NC", "class_N", "slice_N", "length_N", "exclusive")
    own = {name: options.pop(name) for name in names if name in options}
    return SelectionPool(
        ids_N=np.array([f"id{i:04d}" for i in range(num)]),
        unit_ND=np.asarray(unit_ND, np.float32),
        labelled_N=labelled_N,
        candidate_N=~labelled_N,
        group_N=np.arange(num) if group is None else np.asarray(group),
        config=StrategyConfig(**options),
        num_classes=own["prob_NC"].shape[1] if own.get("prob_NC") is not None else 2,
        **own,
    )


def blobs(num_blobs=8, size=30, seed=0, dim=16, spread=0.01):
    """Blobs around orthogonal directions; returns unit rows and the blob of each."""
    rng = np.random.default_rng(seed)
    blob_N = np.repeat(np.arange(num_blobs), size)
    emb_ND = np.eye(dim)[blob_N] + spread * rng.normal(size=(len(blob_N), dim))
    return unit_rows(emb_ND), blob_N


def cloud(num=200, dim=8, seed=0):
    """Unit rows without clusters."""
    return unit_rows(np.random.default_rng(seed).normal(size=(num, dim)))


def probabilities(num, num_classes=3, seed=0):
    """Random probabilities, rows sum to 1."""
    return np.random.default_rng(seed).dirichlet(np.ones(num_classes), size=num)


def positions(picks):
    """Rows of the pool that were picked, in order."""
    return [int(pick.image_id[2:]) for pick in picks]
