"""Blocks of rows that are sent to Ray give what they give in one process, byte for byte."""

import numpy as np
import pytest

from pipeline.learn.classifier import Classifier
from pipeline.learn.heads.head import Head
from pipeline.runtime import run_files
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import principal_components, row_blocks

NUM, DIMS, BLOCK = 700, 96, 100


@pytest.fixture
def mapped_ND(tmp_path, monkeypatch):
    monkeypatch.setattr(row_blocks, "MIN_PRODUCTS", 0)
    monkeypatch.setattr(row_blocks, "NUMBERS_AT_ONCE", BLOCK * DIMS)
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(NUM, DIMS)).astype(np.float16))
    return np.load(tmp_path / "vectors.npy", mmap_mode="r")


@pytest.mark.ray
def test_a_projection_is_the_same_file(tmp_path, mapped_ND, ray_session):
    left = []
    for engine in (SerialEngine(), ray_session):
        principal_components.write(tmp_path, mapped_ND, np.arange(0, NUM, 2), 8, engine)
        principal_components.write_similarity(tmp_path, mapped_ND[:, :40], np.arange(0, NUM, 2), 8, engine)
        left.append([(tmp_path / name).read_bytes() for name in (run_files.FEATURES, run_files.SIMILARITY)])
    assert left[0] == left[1]


@pytest.mark.ray
def test_a_model_answers_the_same(mapped_ND, ray_session):
    rng, half_C = np.random.default_rng(1), np.ones(2) / 2
    head = Head({"weight0": rng.normal(size=(2, 8)).astype(np.float32), "bias0": np.zeros(2, np.float32)})
    basis_DP = rng.normal(size=(DIMS, 8)).astype(np.float32)
    model = Classifier(head, ("normal", "sick"), 1.0, half_C, np.ones(2), half_C, np.ones(DIMS, np.float32), basis_DP)
    rows_M = rng.permutation(NUM)[:550]
    there_NC = model.logits(mapped_ND, rows_M, ray_session)
    np.testing.assert_array_equal(there_NC, model.logits(mapped_ND, rows_M))
    assert there_NC.shape == (550, 2)
