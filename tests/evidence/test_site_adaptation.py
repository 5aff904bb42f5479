"""An operating point from a site's own unlabelled scans: what it is made of, what it refuses, and where it is shown."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST, SPLIT_TABLE
from pipeline.evidence import site_adaptation
from pipeline.learn import operating_point
from pipeline.learn.classifier import Classifier
from pipeline.learn.heads.head import Head
from tests.support.tiny import FAST, call, make_pool, picture

SHORT = ("--rounds", "1", "--budget", "12", "--oracle", "--set", "calibrate.num_folds=2", *FAST)
STAGES = ("--set", "embed.features=stages", "--set", "audit.num_bootstrap=20", "--set", "audit.max_equalised_scans=0")
NUM_SITE = 110


def unlabelled(folder, num=NUM_SITE, seed=5000, brighter=lambda i: i % 2):
    """A flat folder of pictures that no run has seen."""
    folder.mkdir(parents=True)
    for i in range(num):
        picture(seed + i, bright=60 * brighter(i)).save(folder / f"d{i:03d}.png")
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run, and a site of as many bright as dark pictures."""
    folder = tmp_path_factory.mktemp("done")
    answer = call("run", "--pool", make_pool(folder / "pool", num=60), "--out", folder / "a", *SHORT, *STAGES)
    assert answer.code == 0, answer.err
    unlabelled(folder / "site")
    return folder


def evaluated(done, site, *more):
    return call("evaluate", done / "a", "--set", f"evaluate.site={site}", "--json", *more)


def paths_of(done, split):
    """Files, inside the pool, of one side of the run's split."""
    splits, manifest = SPLIT_TABLE.read(done / "a"), MANIFEST.read(done / "a")
    sides = dict(zip(splits["image_id"].to_pylist(), splits["split"].to_pylist(), strict=True))
    both = zip(manifest["image_id"].to_pylist(), manifest["path"].to_pylist(), strict=True)
    return [path for image_id, path in both if sides[image_id] == split]


class TestCut:
    """A head whose logits are given: log-odds at balanced classes."""

    def model(self, prevalence=0.5, prior=0.5, temperature=1.0):
        head = Head({"weight0": np.zeros((2, 1), np.float32), "bias0": np.zeros(2, np.float32)})
        share_C = np.array([1 - prevalence, prevalence])
        return Classifier(head, ("normal", "sick"), temperature, share_C, share_C, np.array([1 - prior, prior]))

    def hills(self, num_left, num_right, left=-3.0, right=5.0):
        rng = np.random.default_rng(0)
        score_T = np.concatenate([rng.normal(left, 1, num_left), rng.normal(right, 1, num_right)])
        return np.column_stack([np.zeros(len(score_T)), score_T])

    @pytest.mark.parametrize(("prevalence", "prior", "temperature"), [(0.5, 0.5, 1.0), (0.3, 0.4, 2.0)])
    def test_the_cut_is_halfway_between_even_odds_and_the_valley_of_the_site(self, prevalence, prior, temperature):
        model, logit_TC = self.model(prevalence, prior, temperature), self.hills(300, 300)
        point = site_adaptation.cut(model, logit_TC, 3, "somewhere")
        valley = operating_point.otsu_threshold(logit_TC[:, 1]) / temperature + np.log(prior / (1 - prior))
        assert point.valley == pytest.approx(valley)
        balanced = temperature * (0.5 * valley - np.log(prior / (1 - prior)))  # back to the head's own log-odds
        around = np.array([[0.0, balanced - 0.01], [0.0, balanced + 0.01]])
        assert point.classes(model.probabilities(around)).tolist() == [0, 1]

    def test_what_the_pool_alone_would_have_cut_is_the_same_rule(self):
        model, logit_TC = self.model(0.4, 0.5), self.hills(300, 200)
        priors = (model.prevalence_C, model.learning_prior_C)
        own = operating_point.choose("pool", logit_TC, *priors, np.array([60, 40]))
        assert site_adaptation.cut(model, logit_TC, 0, "x").weights_C == pytest.approx(own.weights_C)

    def test_a_class_that_is_rare_at_the_site_is_refused_and_named(self):
        with pytest.raises(InputError, match=r"1% of its scans show sick; under 15%") as refused:
            site_adaptation.cut(self.model(), self.hills(297, 3, left=-6.0), 0, "x")
        assert refused.value.where == "evaluate.site" and "run's own operating point" in refused.value.fix

    def test_the_address_leaves_as_a_hash(self):
        told = site_adaptation.cut(self.model(), self.hills(60, 60), 3, "/wards/dr-grey").to_json()
        assert told["address_sha256"] == hashlib.sha256(b"/wards/dr-grey").hexdigest()
        assert "grey" not in json.dumps(told)
        assert (told["operating_point"], told["num_scans"], told["num_unusable"]) == ("adapted to the site", 120, 3)
        assert sum(told["mean_probability"].values()) == pytest.approx(1.0)


def test_the_site_stands_beside_the_runs_own_point(done, tmp_path):
    shutil.copytree(done / "a", tmp_path / "a")
    plain = json.loads((done / "a" / "evaluation.json").read_text("utf-8"))
    site = unlabelled(tmp_path / "site")
    (site / "torn.png").write_bytes(b"no picture")
    answer = evaluated(tmp_path, site)
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "a" / "evaluation.json").read_text("utf-8"))
    told = found.pop("site")
    assert found == plain
    assert (told["num_scans"], told["num_unusable"]) == (NUM_SITE, 1)
    assert told["holdout"]["num_scans"] == plain["overall"]["num_scans"]
    assert told["holdout"]["auroc"] == plain["overall"]["auroc"]  # the probabilities stay
    report, card = ((tmp_path / "a" / "report" / name).read_text("utf-8") for name in ("index.html", "model_card.md"))
    assert "Adapted to the site: from 110 unlabelled scans" in report and "adapted to the site" in card
    assert "## Adapted to the site" in card and "A second operating point, adapted to the site" in report
    again = evaluated(tmp_path, site)
    assert again.json["site"] == told


def test_labels_of_the_site_are_not_read(done, tmp_path):
    shutil.copytree(done / "a", tmp_path / "a")
    site = unlabelled(tmp_path / "site")
    plain = evaluated(tmp_path, site).json["site"]
    rows = [f"d{i:03d}.png,{'abc'[i % 3]}" for i in range(NUM_SITE)]
    (site / "manifest.csv").write_text("\n".join(["image_path,label", *rows]) + "\n", "utf-8")
    labelled = evaluated(tmp_path, site / "manifest.csv").json["site"]
    assert labelled | {"address_sha256": ""} == plain | {"address_sha256": ""}


def test_a_class_of_few_labels_wins_no_operating_point(done, tmp_path, monkeypatch):
    monkeypatch.setattr(site_adaptation, "MIN_LABELS", 100)
    answer = evaluated(done, unlabelled(tmp_path / "site"))
    assert answer.code == 2 and "needs 100 expert labels of each class, and there are " in answer.err


def test_too_few_scans_are_refused_and_leave_no_trace(done, tmp_path):
    answer = evaluated(done, unlabelled(tmp_path / "site", num=99))
    assert answer.code == 2
    assert "evaluate.site" in answer.err and "has 99 usable scans; 100 are needed" in answer.err
    assert not list((done / "a").glob("site/*"))


@pytest.mark.parametrize(
    ("split", "where"), [("holdout", "its sealed holdout"), ("train", "the scans it learned from")]
)
def test_scans_of_the_run_are_refused(done, tmp_path, split, where):
    site = unlabelled(tmp_path / "site")
    for path in paths_of(done, split):
        shutil.copyfile(done / "pool" / path, site / f"x-{path}")
    answer = evaluated(done, site)
    assert answer.code == 2
    assert where in answer.err and "that the run has never seen" in answer.err
    assert "site" not in json.loads((done / "a" / "evaluation.json").read_text("utf-8"))


def test_patients_of_the_run_are_refused(done, tmp_path):
    site = unlabelled(tmp_path / "site")
    sealed = paths_of(done, "holdout")[0]
    patient = f"p{int(sealed.removeprefix('s').removesuffix('.png')) // 2}"
    rows = [f"d{i:03d}.png,{patient if i == 7 else f'q{i}'}" for i in range(NUM_SITE)]
    (site / "manifest.csv").write_text("\n".join(["image_path,patient_id", *rows]) + "\n", "utf-8")
    answer = evaluated(done, site / "manifest.csv")
    assert answer.code == 2 and "(1 patient, 0 pictures)" in answer.err


def test_a_run_refuses_before_anything_is_spent(done, tmp_path):
    missing = call("run", "--pool", done / "pool", "--out", tmp_path / "r", *SHORT, "--set", "evaluate.site=/no/where")
    assert missing.code == 2 and "evaluate.site: cannot be read" in missing.err and not (tmp_path / "r").exists()
    three = ("--set", "pool.findings=[normal, sick, odd]", "--set", f"evaluate.site={done / 'site'}")
    answer = call("run", "--pool", done / "pool", "--out", tmp_path / "r", *SHORT, *three)
    assert answer.code == 2 and "is for two classes, and the model tells 3 apart" in answer.err


def test_a_head_of_pooled_stages_can_be_tested_elsewhere(done, tmp_path):
    pool = make_pool(tmp_path / "elsewhere", num=30, row=lambda i: (("normal", "sick")[i // 2 % 2], f"q{i // 2}"))
    for i in range(30):
        picture(7000 + i, bright=60 * (i // 2 % 2)).save(pool / f"s{i:03d}.png")
    shutil.copytree(done / "a", tmp_path / "a")
    answer = call("evaluate", tmp_path / "a", "--pool", pool, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["scope"]["num_scans"] == 30
