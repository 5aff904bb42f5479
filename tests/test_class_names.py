"""Whatever the classes are called and in whatever order they are listed, every number speaks of the finding."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.tiny import FAST, call, make_pool

RUN = [*FAST, "--oracle", "--rounds", 1, "--budget", 24, "--accept", "all", "--because", "a made-up pool"]


def pool_of(folder, healthy, finding):
    """Three of eight scans show the finding; brightness tells it, and would call one more ill."""

    def row(i):
        return (finding if i // 2 % 2 and i % 8 != 3 else healthy), f"p{i // 2}", "FM"[i // 2 % 3 == 0]

    return make_pool(folder, num=72, columns=("label", "patient_id", "sex"), row=row)


def shares_right(run, finding):
    """Sensitivity and specificity of a class on the holdout, from the tables alone."""
    rows = pq.read_table(run / "predictions.parquet", filters=[("split", "==", "holdout")]).to_pandas()
    truth = pq.read_table(run / "pool_labels.parquet").to_pandas().set_index("image_id")["label"]
    ill_N, called_N = truth[rows["image_id"]].to_numpy() == finding, rows["predicted"].to_numpy() == finding
    return called_N[ill_N].mean(), (~called_N[~ill_N]).mean(), int(ill_N.sum())


@pytest.mark.parametrize(
    ("healthy", "finding", "options"),
    [
        pytest.param("none", "effusion", [], marks=pytest.mark.slow),
        ("non-covid", "covid", []),
        pytest.param("No findings", "Atelectasis", [], marks=pytest.mark.slow),
        ("normal", "pneumonia", ["--set", "pool.findings=[pneumonia, normal]"]),
        pytest.param("viral", "bacterial", ["--set", "pool.positive=bacterial"], marks=pytest.mark.slow),
    ],
)
def test_every_number_is_of_the_finding(tmp_path, healthy, finding, options):
    out = tmp_path / "run"
    answer = call("run", "--pool", pool_of(tmp_path / "pool", healthy, finding), "--out", out, *RUN, *options)
    assert answer.code == 0, answer.err
    sensitivity, specificity, num_ill = shares_right(out, finding)
    assert sensitivity != specificity  # else the test could not tell them apart
    row = json.loads((out / "metrics.jsonl").read_text("utf-8"))
    evaluation = json.loads((out / "evaluation.json").read_text("utf-8"))
    assert evaluation["scope"]["positive"] == finding
    assert json.loads((out / "rounds" / "01" / "model" / "card.json").read_text("utf-8"))["positive"] == finding
    for scores in (row["holdout"], evaluation["overall"]):
        assert scores["positive"] == finding
        assert (scores["sensitivity"], scores["specificity"]) == pytest.approx((sensitivity, specificity))
        assert scores["auprc"] == scores["per_class"][finding]["auprc"]
        assert scores["per_class"][finding]["num_positive"] == num_ill
    for part in ("operating_points", "predictive_values", "calibration", "decision_curve"):
        assert {found["finding"] for found in evaluation[part]} == {finding}
    model = next(found for found in evaluation["operating_points"] if found["target"] == "model")
    assert model["sensitivity"] == pytest.approx(sensitivity)
    assert np.sum([found["num_positive"] for found in evaluation["slices"] if found["by"] == "sex"]) == num_ill
    said = f"are of {finding}: it is the finding, {healthy} its absence"
    card = (out / "report" / "model_card.md").read_text("utf-8")
    assert said in card and f"- {finding} (the finding" in card and f"| Sensitivity | {sensitivity:.1%} |" in card
    page = (out / "report" / "index.html").read_text("utf-8")
    assert said in page and f"the model finds {finding} with an AUROC" in page
    other = call("evaluate", out, "--set", f"pool.positive={healthy}")  # the page would speak of two findings
    assert other.code == 2 and f'pool.positive="{healthy}"\'' in other.message
    assert json.loads((out / "evaluation.json").read_text("utf-8")) == evaluation


@pytest.mark.parametrize("pair", [("viral", "bacterial"), ("normal", "No Finding")])
def test_two_classes_that_leave_it_open_are_refused_before_anything_is_embedded(tmp_path, pair):
    pool, out = pool_of(tmp_path / "pool", *pair), tmp_path / "run"
    answer = call("run", "--pool", pool, "--out", out, *RUN)
    assert answer.code == 2 and not (out / "embeddings.npy").exists()
    assert all(word in answer.message for word in (*pair, "pool.positive", "--set"))
    assert call("audit", pool, "--out", tmp_path / "audit", *FAST).code in (0, 4)  # its numbers need no finding
    wrong = call("audit", pool, "--out", tmp_path / "audit", *FAST, "--set", "pool.positive=Virall")
    assert wrong.code == 2 and "pool.positive" in wrong.message
