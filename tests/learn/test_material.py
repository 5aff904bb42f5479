from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.learn.material import FeaturesOfRun, Material
from pipeline.learn.scan_rows import ScanRows


@pytest.fixture
def material():
    """Seven scans; the pool is in another order than the features; experts read two, and reject one."""
    scans = {"scans_N": "abcdefg", "pool_T": "gbdfa", "expert_E": "ag", "rejected_R": "d"}
    arrays = {"class_E": np.array([1, 0]), "group_E": ["p", "q"], "uniform_E": np.array([True, False])}
    arrays["judges_E"] = np.ones(2, bool)
    arrays["group_T"] = np.array(["q", "r", "s", "t", "p"])
    orders = {name: ScanRows.of(ids) for name, ids in scans.items()}
    nowhere = Path("nowhere")
    return Material(folder=nowhere, features=FeaturesOfRun(nowhere), graph_TT=None, **orders, **arrays)


def test_arrays_along_all_scans_are_cut_to_the_pool_and_to_the_experts(material):
    along_N = np.array(list("abcdefg"))
    assert "".join(material.of_pool(along_N)) == "gbdfa"
    assert "".join(material.of_experts(along_N)) == "ag"
    for cut in (material.of_pool, material.of_experts):
        with pytest.raises(AssertionError, match="one row a scan with a vector"):
            cut(along_N[:5])


def test_the_open_scans_are_those_nobody_has_judged(material):
    assert "".join(material.pool_T.keep(material.open_T).image_id.to_pylist()) == "bf"
    np.testing.assert_array_equal(material.expert_in_pool_E, [4, 0])


def test_the_prevalence_comes_from_the_uniform_slice(material):
    assert material.prevalence(2)[1] > 0.5 > material.prevalence(2)[0]


def test_what_lies_along_the_experts_has_their_number(material):
    with pytest.raises(AssertionError, match="class, group and origin of every expert-labelled scan"):
        replace(material, class_E=np.zeros(3, np.int64))
    with pytest.raises(AssertionError, match="a rejected scan has no expert class"):
        replace(material, rejected_R=material.expert_E)
