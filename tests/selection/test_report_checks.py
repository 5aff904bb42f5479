"""Scans drawn by chance from what reports say: blind checks of their own kind, beside the uniform slice."""

import numpy as np
import pytest

from pipeline.contracts.config import Config
from pipeline.selection.draw import Proposals, _blind
from tests.support.selection_pools import cloud, pool_of


def drawn(reported, share=0.2, budget=20):
    config = Config.model_validate({"reports": {"check_share": share}, "queue": {"uniform_share": 0.25}})
    rows = _blind(
        pool_of(cloud(100)), config, Proposals({}, reported=frozenset(reported)), budget, "typiclust", rng(), 0, 0
    )
    return {
        kind: {pick.image_id for pick, own in rows if own == kind} for kind in ("uniform", "report-check", "recheck")
    }


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("share", "num"), [(0.0, 0), (0.2, 4), (1.0, 15)])
def test_reports_check_share_bounds_them_and_the_uniform_slice_stays(share, num):
    ids = {f"id{i:04d}" for i in range(40)}
    queue = drawn(ids, share)
    assert len(queue["report-check"]) == num and queue["report-check"] <= ids
    assert queue["uniform"] == drawn(())["uniform"] and not queue["uniform"] & queue["report-check"]


def test_without_reports_nothing_is_drawn_for_them():
    assert drawn(())["report-check"] == set()
