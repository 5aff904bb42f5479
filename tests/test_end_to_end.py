"""The main job from the command line to the report, small and in this process."""

import csv
import html.parser
import json

import pyarrow.compute as pc
import pytest

from pipeline.contracts import config_file, tables
from pipeline.contracts.tables import LABELS, PREDICTIONS, PSEUDO, QUEUE
from pipeline.labels.verdicts import expert_classes
from pipeline.runtime import run_files
from pipeline.stages import STAGES
from tests.support.tiny import FAST, call, make_pool

PHANTOM = "phantom:num_patients=40,size_px=64,seed=5"
RUN_FILES = (
    "config.yaml",
    "resolved.yaml",
    "env.json",
    "status.json",
    "manifest.parquet",
    "duplicates.parquet",
    "splits.parquet",
    "labels.parquet",
    "predictions.parquet",
    "metrics.jsonl",
    "report/index.html",
    "report/model_card.md",
)
ROUND_FILES = (
    "queue.csv",
    "queue.labelstudio.json",
    "queue.html",
    "pseudo.parquet",
    "model/model.safetensors",
    "model/model.onnx",
    "model/card.json",
)
METRICS = {
    "round",
    "num_expert",
    "num_pseudo",
    "pseudo_precision",
    "pseudo_precision_estimated",
    "pseudo_precision_certified",
    "threshold_prob",
    "holdout",
    "seconds",
}
HOLDOUT = {
    "auroc",
    "auroc_ci95",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "f1",
    "auprc",
    "ece",
    "brier",
    "confusion",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two rounds on phantoms, and what the command answered."""
    out = tmp_path_factory.mktemp("end-to-end") / "run"
    options = ("--set", "rounds.reference=true", "--set", "calibrate.num_folds=3")
    answer = call(
        "run",
        "--pool",
        PHANTOM,
        "--oracle",
        "--rounds",
        "2",
        "--budget",
        "8",
        "--out",
        out,
        *FAST,
        *options,
        "--json",
        drawn=True,
    )
    return out, answer


@pytest.fixture
def waiting(tmp_path):
    """A run that waits for its experts, and its first sheet."""
    out = tmp_path / "waits"

    def row(i):
        return ("", f"p{i // 2}", "train") if i < 20 else (("normal", "sick")[i // 2 % 2], f"p{i // 2}", "test")

    pool = make_pool(tmp_path / "waiting-pool", num=28, columns=("label", "patient_id", "official_split"), row=row)
    assert call("run", "--pool", pool, "--rounds", "2", "--budget", "6", "--out", out, *FAST, "-q").code == 3
    return out, out / "rounds" / "01" / "queue.csv"


def contents(folder):
    """Bytes and time of every file but the lock and what each command must touch."""
    touched = {
        run_files.LOCK,
        "status.json",
        "stages.json",
        "env.json",
        "config.yaml",
        "resolved.yaml",
        "lineage.jsonl",
    }
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in touched]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


class Links(html.parser.HTMLParser):
    """Everything a page would load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        loads = {"src", "srcset", "data", "poster"} | ({"href"} if tag in ("link", "image", "use") else set())
        self.found += [value for name, value in attributes if name in loads and value]


def test_the_answer_is_one_json_object(finished):
    out, answer = finished
    assert answer.code == 0, answer.err
    assert answer.out.count("\n") == 1
    found = answer.json
    assert (found["out"], found["state"], found["report"]) == (str(out), "done", str(out / "report" / "index.html"))
    assert found["metrics"] == metrics(out)
    assert list(found["stages"]) == [stage.name for stage in STAGES]


def test_every_file_is_there(finished):
    out, _ = finished
    assert [name for name in RUN_FILES if not (out / name).is_file()] == []
    for folder in ("rounds/01", "rounds/02"):
        assert [name for name in ROUND_FILES if not (out / folder / name).is_file()] == []
    assert json.loads((out / "status.json").read_text("utf-8"))["state"] == "done"
    assert config_file.load(out / "resolved.yaml").queue.budget == 8


def test_every_table_keeps_its_contract(finished):
    out, _ = finished
    by_name = {contract.name: contract for contract in tables.CONTRACTS}
    seen = set()
    for path in out.rglob("*.parquet"):
        if path.stem in by_name:
            assert len(by_name[path.stem].read(path.parent)) > 0, path
            seen.add(path.stem)
    # Two rounds of eight labels cannot pay for a release, and nobody read the pool before.
    assert seen == set(by_name) - {"release", "pool_readings"}


def test_every_round_has_its_row(finished):
    out, _ = finished
    rows = metrics(out)
    assert [(row["round"], row["num_expert"]) for row in rows] == [(1, 8), (2, 16)]
    findings = set(rows[0]["threshold_prob"])
    for row in rows:
        assert set(row) >= METRICS
        assert set(row["holdout"]) >= HOLDOUT
        assert 0.0 <= row["holdout"]["auroc"] <= 1.0
        assert len(row["holdout"]["confusion"]) == len(findings)
        assert {"queue", "labels", "train", "pseudo", "evaluate"} <= set(row["seconds"])
        assert row["num_pseudo"] == len(
            PSEUDO.read(out / "rounds" / f"{row['round']:02d}").filter(pc.field("admitted"))
        )
    assert findings == set(rows[1]["threshold_prob"])
    assert {f"prob_{finding}" for finding in findings} <= set(PREDICTIONS.read(out).column_names)


def test_queues_ask_for_new_scans_of_the_training_pool(finished):
    out, _ = finished
    splits = tables.SPLIT_TABLE.read(out)
    train = set(splits.filter(pc.field("split") == "train")["image_id"].to_pylist())
    holdout = set(splits.filter(pc.field("split") == "holdout")["image_id"].to_pylist())
    first, second = (QUEUE.read(out / "rounds" / name) for name in ("01", "02"))
    asked = first["image_id"].to_pylist() + second["image_id"].to_pylist()
    assert len(set(asked)) == 16
    assert set(asked) <= train
    assert first["kind"].to_pylist().count("uniform") == 2
    labels = LABELS.read(out)
    assert set(labels.filter(pc.field("origin") == "expert")["image_id"].to_pylist()) == set(asked)
    assert not holdout & set(labels["image_id"].to_pylist())


def test_annotators_see_neither_why_nor_whose(finished):
    out, _ = finished
    folder = out / "rounds" / "01"
    manifest = tables.MANIFEST.read(out)
    secrets = {
        "uniform",
        "representative",
        *manifest["patient_id"].drop_null().to_pylist(),
        *manifest["path"].to_pylist(),
    }
    for name in ("queue.csv", "queue.labelstudio.json", "queue.html"):
        text = (folder / name).read_text("utf-8")
        assert [secret for secret in secrets if secret in text] == []
    with (folder / "queue.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["rank"]) for row in rows] == list(range(1, 9))
    assert all((folder / row["file"]).is_file() and row["label"] == "" for row in rows)


def test_the_report_is_one_file(finished):
    out, _ = finished
    text = (out / "report" / "index.html").read_text("utf-8")
    links = Links()
    links.feed(text)
    assert [link for link in links.found if not link.startswith(("data:", "#"))] == []
    assert "@import" not in text
    others = [path.name for path in (out / "report").iterdir() if path.suffix not in (".html", ".md")]
    assert others == ["croissant.json"]  # for machines; no page needs it


def test_a_second_run_computes_nothing_again(finished):
    out, first = finished
    plan = call("run", "--out", out, "--resume", "--dry-run", "--json").json
    assert [row["stage"] for row in plan["stages"] if not row["reuse"] and not row["always"]] == []
    before = contents(out)
    num_events = len((out / "lineage.jsonl").read_text("utf-8").splitlines())
    again = call("run", "--out", out, "--resume", "--json")
    assert again.code == 0, again.err
    assert again.json["metrics"] == first.json["metrics"]
    events = [json.loads(line) for line in (out / "lineage.jsonl").read_text("utf-8").splitlines()]
    of_all, of_second = ({e["job"]["name"].split(".")[-1] for e in part} for part in (events, events[num_events:]))
    assert of_all == {stage.name for stage in STAGES}
    assert of_second == {stage.name for stage in STAGES if stage.always}
    after = contents(out)
    assert set(after) == set(before)
    assert [name for name in before if before[name][0] != after[name][0]] == []
    kept = {name for stage in STAGES if not stage.always for name in stage.outputs}
    kept |= {name for name in before if name.startswith("rounds/")} | {"labels.parquet", "holdout_access.jsonl"}
    assert [name for name in kept if before[name][1] != after[name][1]] == []


def test_a_changed_option_is_planned_as_work(finished):
    out, _ = finished
    answer = call("run", "--out", out, "--resume", "--dry-run", "--json", "--set", "cluster.num_clusters=5")
    reuse = {row["stage"]: row["reuse"] for row in answer.json["stages"]}
    assert (reuse["embed"], reuse["clusters"], reuse["report"]) == (True, False, False)


def test_status_and_report(finished):
    out, _ = finished
    found = call("status", out, "--json").json
    assert (found["state"], found["rounds_finished"], found["rounds"], found["num_expert"]) == ("done", 2, 2, 16)
    assert "rounds finished: 2 of 2" in call("status", out).out
    page = out / "report" / "index.html"
    page.unlink()
    assert call("report", out, "--json").json == {"report": str(page)}
    assert "</html>" in page.read_text("utf-8")


def test_the_same_seed_gives_the_same_run(finished, tmp_path):
    out, first = finished
    options = ("--set", "calibrate.num_folds=3", "--set", "engine.threads_per_task=1")
    answer = call(
        "run",
        "--pool",
        PHANTOM,
        "--oracle",
        "--rounds",
        "1",
        "--budget",
        "8",
        "--out",
        tmp_path / "run",
        *FAST,
        *options,
        "--json",
    )
    assert answer.code == 0, answer.err
    hidden = [tables.MANIFEST.read(folder) for folder in (tmp_path / "run", out)]
    assert hidden[0].drop_columns(["patient_id"]) == hidden[1].drop_columns(["patient_id"])
    assert not {*hidden[0]["patient_id"].to_pylist()} & {*hidden[1]["patient_id"].to_pylist()}, "each has its secret"
    for name in ("splits.parquet", "embeddings.npy", "clusters.parquet", "rounds/01/queue.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (out / name).read_bytes(), name
    assert answer.json["metrics"][0]["holdout"] == first.json["metrics"][0]["holdout"]


def test_people_label_and_the_run_goes_on(tmp_path):
    def row(i):
        label = ("normal", "sick")[i // 2 % 2]
        return ("", f"p{i // 2}", "train") if i < 20 else (label, f"p{i // 2}", "test")

    pool = make_pool(tmp_path / "pool", num=28, columns=("label", "patient_id", "official_split"), row=row)
    out, queue = tmp_path / "run", tmp_path / "run" / "rounds" / "01" / "queue.csv"
    start = ("run", "--pool", pool, "--rounds", "2", "--budget", "6", "--out", out, *FAST, "-q")
    resume = ("run", "--out", out, "--resume", "-q")

    answer = call(*start)
    assert (answer.code, answer.out) == (3, "")
    advice = answer.message.splitlines()
    assert advice[0] == "waiting: round 1 waits for 6 of 6 labels"
    for command in (
        f"annotate {out}",
        f"queue export {out}",
        f"labels import {out} {queue}",
        f"run --out {out} --resume",
    ):
        assert f"cxr-ssl {command}" in answer.message
    found = call("status", out, "--json").json
    assert (found["state"], found["rounds_finished"]) == ("waiting", 0)
    assert "queue.csv" in found["waiting"]

    with queue.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    truth = dict(zip(*(tables.MANIFEST.read(out)[name].to_pylist() for name in ("image_id", "path")), strict=True))

    def fill(labels):
        with queue.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows([given | {"label": label} for given, label in zip(rows, labels, strict=True)])

    right = [("normal", "sick")[int(truth[given["image_id"]][1:4]) // 2 % 2] for given in rows]
    fill(["normall", "sikc", *right[2:]])
    answer = call("labels", "import", out, queue, "--annotator", "Ann")
    assert answer.code == 2
    assert "queue.csv:2: unknown finding 'normall'; did you mean 'normal'?" in answer.err
    assert "queue.csv:3: unknown finding 'sikc'; did you mean 'sick'?" in answer.err
    assert not (out / "labels.parquet").exists()  # nothing of a file with a mistake is taken

    fill(["", *right[1:]])
    answer = call("labels", "import", out, queue, "--annotator", "Ann", "--json")
    assert answer.json | {"num_new": 5, "num_known": 0, "num_blank": 1} == answer.json
    answer = call(*resume)
    assert answer.code == 3
    assert "waits for 1 of 6 labels" in answer.message
    fill(right)
    filled = queue.read_text("utf-8")
    answer = call("labels", "import", out, queue, "--annotator", "Ann", "--json")
    assert answer.json | {"num_new": 1, "num_known": 5, "num_blank": 0} == answer.json
    before = (out / "labels.parquet").read_bytes()
    answer = call("labels", "import", out, queue, "--annotator", "Ann", "--json")
    assert answer.json | {"num_new": 0, "num_changed": 0, "num_files_known": 1} == answer.json
    assert (out / "labels.parquet").read_bytes() == before

    asked = QUEUE.read(queue.parent)
    (queue.parent / "queue.html").unlink()  # the other files are written again, the filled sheet is not
    answer = call(*resume)
    assert answer.code == 3
    assert "round 2 waits for 6 of 6 labels" in answer.message
    assert QUEUE.read(queue.parent) == asked
    assert set(PREDICTIONS.read(out)["round"].to_pylist()) == {1}  # what round 1 found is there while round 2 waits
    (row,) = metrics(out)
    assert (row["num_expert"], row["pseudo_precision"]) == (6, None)  # nobody knows the truth of the others
    assert row["holdout"]["num_scans"] == 8
    assert (queue.parent / "queue.html").is_file()
    assert queue.read_text("utf-8") == filled
    labels = LABELS.read(out)
    assert set(labels.filter(pc.field("origin") == "expert")["annotator"].to_pylist()) == {"Ann"}

    answer = call("run", "--pool", pool, "--out", out, "--overwrite", *FAST, "-q", "--budget", "6")
    assert answer.code == 3
    (kept,) = tmp_path.glob("run.before-*")
    assert LABELS.read(kept) == labels


def test_importing_an_old_file_again_does_not_undo_a_correction(waiting):
    out, queue = waiting
    first, second = queue.with_name("first.csv"), queue.with_name("second.csv")
    rows = list(csv.DictReader(queue.open(encoding="utf-8")))
    for path, label in ((first, "normal"), (second, "sick")):
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows([row | {"label": label} for row in rows])
    assert call("labels", "import", out, first, second).code == 2  # two answers at once: which one holds?
    assert call("labels", "import", out, first, "--json").json["num_new"] == len(rows)
    assert call("labels", "import", out, second, "--json").json["num_changed"] == len(rows)
    assert call("labels", "import", out, first, "--json").json["num_new"] == 0
    assert set(expert_classes(LABELS.read(out), ("normal", "sick")).values()) == {"sick"}
    assert "every label is there" in call("status", out).out


def test_another_pool_is_refused_before_anything_is_written(waiting):
    out, _ = waiting
    before = {path: path.read_bytes() for path in out.glob("*.parquet") if path.name != "manifest_files.parquet"}
    answer = call("run", "--pool", PHANTOM, "--out", out, "--resume", *FAST)
    assert answer.code == 2
    assert "not in the pool" in answer.message
    assert {path: path.read_bytes() for path in before} == before
    assert call("run", "--out", out, "--resume").code == 3  # the run goes on with its own pool
