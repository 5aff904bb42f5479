"""What a queue knows of the rounds before: probabilities, experts' classes, slices; and the options that read it."""

import logging

import numpy as np
import pyarrow as pa
import pytest

from pipeline.contracts.answers import POOL, Answer
from pipeline.contracts.tables import MANIFEST, PREDICTIONS
from pipeline.labels import label_table
from pipeline.selection import draw as selection_draw
from pipeline.selection.draw import Proposals
from pipeline.selection.knowledge import knowledge_of
from tests.support.synthetic_run import FINDINGS, options, synthetic_run


@pytest.fixture
def run(tmp_path):
    return synthetic_run(tmp_path, num_scans=120, num_holdout=20, queue__budget=20, queue__uniform_share=0.0)


def predict(run, pneumonia, round_index=1, ids=None):
    """Leave a round's predictions: the probability of pneumonia of each scan, in the order of `ids`."""
    ids = list(run.truth) if ids is None else ids
    pneumonia = np.asarray(pneumonia, np.float32)
    table = {
        "image_id": ids,
        "split": [run.split[i] for i in ids],
        "round": np.full(len(ids), round_index, np.int32),
        "predicted": np.where(pneumonia > 0.5, "pneumonia", "normal"),
    }
    table = pa.table(table, schema=PREDICTIONS.schema)
    for finding, values in (("normal", 1 - pneumonia), ("pneumonia", pneumonia)):
        table = table.append_column(f"prob_{finding}", pa.array(values))
    run.ctx.round_folder(round_index).mkdir(parents=True, exist_ok=True)
    PREDICTIONS.write(run.ctx.round_folder(round_index), table)


def known(run, round_index=2, labelled=(), ctx=None):
    ctx = ctx or run.ctx
    return knowledge_of(ctx, round_index, selection_draw.selection_pool(ctx, set(labelled)))


def test_the_probabilities_are_those_of_the_round_before_scan_by_scan(run):
    ids = list(run.truth)[::-1]  # another order than the manifest's
    predict(run, np.linspace(0, 1, len(ids)), ids=ids)
    pool = known(run)
    expected = dict(zip(ids, np.linspace(0, 1, len(ids)), strict=True))
    np.testing.assert_allclose(pool.prob_NC[:, 1], [expected[i] for i in pool.ids_N], atol=1e-6)
    np.testing.assert_allclose(pool.prob_NC.sum(1), 1, atol=1e-6)
    assert known(run, round_index=1).prob_NC is None
    assert known(run, round_index=3).prob_NC is None


def test_predictions_of_other_scans_are_not_used(run, caplog):
    predict(run, np.full(5, 0.5), ids=list(run.truth)[:5])
    with caplog.at_level(logging.INFO):
        assert known(run).prob_NC is None
    assert "predicted other scans" in caplog.text


def test_classes_are_those_that_experts_gave(run):
    ids = run.ids("train")[:4]
    answers = [Answer(i, c, POOL, 0) for i, c in zip(ids, ["normal", "pneumonia", None, "normal"], strict=True)]
    label_table.add_answers(run.folder, [answer for answer in answers if answer.finding], FINDINGS[:2])
    pool = known(run)
    assert dict(zip(pool.ids_N[:4].tolist(), pool.class_N[:4].tolist(), strict=True)) == dict(
        zip(ids, [0, 1, -1, 0], strict=True)
    )
    assert (pool.class_N[4:] == -1).all() and pool.num_classes == 2 and pool.exclusive


@pytest.mark.parametrize("column", ["source", "sex"])
def test_strategy_slice_column_names_the_parts_of_the_pool(run, column):
    manifest = MANIFEST.read(run.folder)
    values = ["a", "b", None] * (len(manifest) // 3)
    place = manifest.schema.get_field_index(column)
    MANIFEST.write(run.folder, manifest.set_column(place, manifest.schema.field(column), pa.array(values, pa.string())))
    ctx = options(run, strategy__slice_column=column)
    pool = known(run, ctx=ctx)
    value_of = dict(zip(manifest["image_id"].to_pylist(), values, strict=True))
    parts = {(value_of[i], s) for i, s in zip(pool.ids_N.tolist(), pool.slice_N.tolist(), strict=True)}
    assert len(parts) == 3 and len({s for _, s in parts}) == 3  # an unknown value is a part too
    other = "view" if column == "source" else "source"
    assert known(run, ctx=options(run, strategy__slice_column=other)).slice_N is None  # it has one value


def test_what_the_classifier_is_unsure_of_is_asked(run):
    """One scan in five is unsure, the others are not: the queue goes there."""
    rng = np.random.default_rng(0)
    unsure = rng.permutation(len(run.truth)) < 24
    predict(run, np.where(unsure, 0.5, 0.0))
    unsure_ids = {i for i, u in zip(run.truth, unsure, strict=True) if u}
    asked = {}
    for name in ("margin", "entropy", "uncertainty_herding", "max_herding"):
        queue = selection_draw.draw(run.ctx, 2, set(), Proposals({}), strategy=name)
        asked[name] = len(unsure_ids & set(queue["image_id"].to_pylist()))
    num_open = len(unsure_ids & set(run.ids("train")))
    assert asked["margin"] == asked["entropy"] == min(20, num_open)
    assert asked["uncertainty_herding"] > asked["max_herding"]


@pytest.mark.parametrize(
    ("strategy", "change"),
    [
        ("max_herding", {"strategy__bandwidth": 3.0}),
        ("prob_cover", {"strategy__min_purity": 0.01}),
    ],
)
def test_options_of_the_strategy_change_its_queue(run, strategy, change):
    def asked(ctx):
        return selection_draw.draw(ctx, 1, set(), Proposals({}), strategy=strategy)["image_id"].to_pylist()

    assert asked(run.ctx) == asked(run.ctx)
    assert set(asked(run.ctx)) != set(asked(options(run, **change)))
