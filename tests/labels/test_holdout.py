"""What a sealed scan shows is decided once: the metrics, the audit and the report test against the same truth."""

import pyarrow as pa

from pipeline.audit.audited_pool import open_subject
from pipeline.contracts.answers import BAD_QUALITY, CANNOT_TELL, Answer
from pipeline.contracts.tables import PREDICTIONS
from pipeline.labels.holdout import holdout_truth
from pipeline.report.gather import gather
from tests.support.people import say
from tests.support.synthetic_run import synthetic_run

FINDINGS = ("normal", "pneumonia")


def other(name):
    return FINDINGS[1 - FINDINGS.index(name)]


def predicted_normal(run):
    ids = run.ids("holdout")
    columns = {
        "image_id": ids,
        "split": ["holdout"] * len(ids),
        "round": [1] * len(ids),
        "predicted": ["normal"] * len(ids),
    }
    table = pa.table(columns, schema=PREDICTIONS.schema)
    for finding, prob in zip(FINDINGS, (0.75, 0.25), strict=True):
        table = table.append_column(f"prob_{finding}", pa.array([prob] * len(ids), pa.float32()))
    PREDICTIONS.write(run.folder, table)


def test_metrics_audit_and_report_have_one_truth_of_the_sealed_scans(tmp_path):
    run = synthetic_run(tmp_path, oracle=False)
    contradicted, confirmed, rejected, unlabelled, nowhere, unsure, *rest = run.ids("holdout")
    train = run.ids("train")[0]
    run.table({i: name for i, name in run.truth.items() if i not in (unlabelled, nowhere, unsure)})
    replies = {
        contradicted: other(run.truth[contradicted]),
        confirmed: run.truth[confirmed],
        rejected: BAD_QUALITY,
        unlabelled: other(run.truth[unlabelled]),
        unsure: CANNOT_TELL,
        train: other(run.truth[train]),
    }
    say(run.folder, [Answer(image_id, reply, "ann", 1) for image_id, reply in replies.items()], FINDINGS)
    expected = {image_id: run.truth[image_id] for image_id in (contradicted, confirmed, *rest)}
    expected[unlabelled] = other(run.truth[unlabelled])  # nobody but the expert knows it

    ids, class_N, _ = holdout_truth(run.folder, FINDINGS)
    assert {image_id: FINDINGS[c] for image_id, c in zip(ids, class_N, strict=True)} == expected

    subject = open_subject(run.ctx)
    audited = dict(zip(subject.image_id_N, subject.label_N, strict=True))
    assert {i: audited[i] for i in run.ids("holdout") if audited[i] is not None} == expected
    assert audited[train] == other(run.truth[train])  # in training a person beats the pool

    predicted_normal(run)
    shown = gather(run.folder).holdout
    assert dict(zip(shown.image_ids, shown.truth_N, strict=True)) == expected
