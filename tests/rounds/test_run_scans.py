"""What a run's tables say of some of its scans, in the order asked for."""

import pyarrow as pa

from pipeline.contracts.answers import POOL
from pipeline.learn.scan_rows import ScanRows
from pipeline.rounds.round_outputs import predictions_table
from pipeline.rounds.run_scans import Dataset
from tests.support.synthetic_run import synthetic_run


def test_sides_and_groups_of_scans_are_those_of_the_split(tmp_path):
    run = synthetic_run(tmp_path, scans_per_patient=3, num_quarantined=4)
    data = Dataset.open(run.ctx)
    asked = [*run.ids("excluded"), *run.ids("holdout")[::-1], *run.ids("train")[::2]]
    assert data.sides(ScanRows.of([*asked, "another"])).to_pylist() == [*(run.split[i] for i in asked), None]
    assert data.train_ids().to_pylist() == run.ids("train")
    assert data.group_T.tolist() == [run.patient[i] for i in data.pool_T.image_id.to_pylist()]


def test_only_labels_of_the_training_pool_are_its_answers(tmp_path):
    run = synthetic_run(tmp_path)
    known = {i: run.truth[i] for i in [*run.ids("train")[3:9], *run.ids("holdout")[:5]]}
    run.table(known)
    answers = Dataset.open(run.ctx).pool_answers()
    assert [(answer.image_id, answer.reply, answer.annotator, answer.round_index) for answer in answers] == [
        (i, known[i], POOL, 0) for i in run.ids("train")[3:9]
    ]


def test_predictions_say_on_which_side_each_scan_is(tmp_path):
    run = synthetic_run(tmp_path)
    data = Dataset.open(run.ctx)
    ids = data.scans_N.image_id.to_pylist()
    table = predictions_table(data, 1, pa.array(["normal"] * len(ids)), {})
    assert table["image_id"].to_pylist() == ids
    assert table["split"].to_pylist() == [run.split[image_id] for image_id in ids]
