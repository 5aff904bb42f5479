import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

import pipeline.rounds.loop
from pipeline.commands import request, status
from pipeline.contracts import config_file, storage, tables
from pipeline.pool import manifest, sources
from tests.support.tiny import FAST, Answer, bomb, call, make_pool, picture

ROOT = Path(__file__).parents[2]
SHORT = ("--rounds", "1", "--budget", "8", "--oracle", "--set", "calibrate.num_folds=2", *FAST)
DEFAULT_BACKBONE = ("backbone.name=efficientnet_lite0", "backbone.weights=null")


@pytest.fixture
def pool(tmp_path):
    return make_pool(tmp_path / "pool")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run and its pool; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("done")
    answer = call("run", "--pool", make_pool(folder / "pool"), "--out", folder / "run", *SHORT)
    assert answer.code == 0, answer.err
    return folder / "run"


def assert_refused(answer: Answer, *words, code=2):
    """One message on standard error, nothing on standard output, no traceback."""
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert "internal error" not in answer.err
    for word in words:
        assert str(word) in answer.err


def listing(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


# --- wrong usage: refused before anything is written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], ["--set rounds.num", "greater than or equal to 1", "got 0"]),
        (["--budget", "x"], ["--budget", "integer", "--help"]),
        (["--bugdet", "3"], ["No such option", "--budget"]),
        (["--seed", "-1"], ["seed", "got -1"]),
        (["--set", "nonsense"], ["nonsense", "section.option=value"]),
        (["--set", "unknown.key=1"], ["--set unknown", "unknown key", "queue"]),
        (["--set", "queue.bugdet=1"], ["--set queue.bugdet", "did you mean 'budget'"]),
        (
            ["--set", "strategy.name=typiclst"],
            ["strategy.name", "'typiclst'", "uncertainty_herding, ", "typiclust, ", "random"],
        ),
        (["--resume", "--overwrite"], ["--resume", "--overwrite", "one of them"]),
        (["--config", "/nowhere/x.yaml"], ["/nowhere/x.yaml", "no such file"]),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--dry-run"]], ids=["run", "dry-run"])
def test_wrong_usage_leaves_nothing(tmp_path, arguments, words, mode):
    assert_refused(call("run", "--out", tmp_path / "run", *arguments, *mode), *words)
    assert not (tmp_path / "run").exists()


def test_five_mistakes_are_five_lines(tmp_path):
    path = tmp_path / "five.yaml"
    path.write_text("seed: -1\nqueue:\n  budgett: 3\n  uniform_share: 2\nrounds:\n  num: many\nstrategie:\n  name: x\n")
    for command in (["run", "--out", tmp_path / "run", "--config", path], ["config", "check", path]):
        answer = call(*command)
        assert_refused(answer, *(f"{path}:{line} " for line in (1, 3, 4, 6, 7)))
        assert len(answer.err.splitlines()) == 5


def test_config_check_counts_and_show_can_be_read_again(tmp_path):
    assert "4 files" in call("config", "check", *[ROOT / "configs" / "quickstart.yaml"] * 4).out
    shown = call("config", "show", "--set", "queue.budget=33")
    (tmp_path / "x.yaml").write_text(shown.out, "utf-8")
    assert config_file.load(tmp_path / "x.yaml") == config_file.load(None, {"queue.budget": 33})
    options = [line for line in shown.out.splitlines() if re.match(r" *\w+:", line)]
    comments = [line for line in shown.out.splitlines() if line.lstrip().startswith("#")]
    assert len(comments) > len(options) > 150 and all(len(line) < 120 for line in comments)


def test_the_version_is_printed_and_shells_complete():
    assert re.fullmatch(r"cxr-ssl \d+\.\d+\.\d+\s*", call("--version").out)
    assert "--install-completion" in call("--help").out


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(tmp_path, pool, done, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    gpu = ("--set", "engine.use_gpu=true")
    words = ("engine.use_gpu", "a GPU is asked for and there is none", "cxr-ssl doctor")
    assert_refused(call("run", "--pool", pool, "--out", tmp_path / "run", *SHORT, *gpu), *words)
    assert not (tmp_path / "run").exists()
    assert_refused(call("audit", pool, "--out", tmp_path / "audit", *FAST, *gpu), *words)
    before = listing(done)
    assert_refused(call("run", "--out", done, "--resume", *gpu), *words)
    assert listing(done) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["backbone.name=torchvision:shufflenet_v2_x0_5", "backbone.weights=null"],
            ["backbone.name", "cannot be cut into stages", "train.adapt=head"],
        ),
        (
            [*DEFAULT_BACKBONE, "network.last_stages=9"],
            ["network.last_stages", "efficientnet_lite0 has 9 stages", "at most 8", "got 9"],
        ),
        (["network.last_stages=0"], ["network.last_stages", "greater than or equal to 1"]),
        (["network.lr=0"], ["network.lr", "greater than 0"]),
    ],
)
def test_a_network_that_cannot_be_adapted_is_refused_before_the_work(tmp_path, pool, options, words):
    out = tmp_path / "run"
    given = [part for option in ("train.adapt=partial", *options) for part in ("--set", option)]
    assert_refused(call("run", "--pool", pool, "--out", out, *SHORT, *given), *words)
    assert not (out / "embeddings.npy").exists() and not (out / "duplicates.parquet").exists()


# --- pools


def test_a_pool_that_is_empty_or_absent(tmp_path, pool):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").write_text("image_path,label\n")
    out = tmp_path / "run"
    assert_refused(call("run", "--pool", tmp_path / "empty", "--out", out, *SHORT), "no images", "pool.uri")
    assert_refused(call("run", "--pool", tmp_path / "empty.csv", "--out", out, *SHORT), "the pool is empty")
    assert_refused(call("run", "--pool", tmp_path / "pol", "--out", out, *SHORT), "Did you mean", "pool'?")
    assert_refused(call("run", "--pool", "medmnist:bloodmnist", "--out", out, *SHORT), "nothing is downloaded")
    assert_refused(call("run", "--pool", "phantom:patients=3", "--out", out, *SHORT), "patients", "num_patients")


def test_a_mapped_column_the_manifest_lacks(tmp_path, pool):
    answer = call("run", "--pool", pool, "--out", tmp_path / "run", *SHORT, "--set", "pool.columns={label: Diagnose}")
    assert_refused(answer, "'Diagnose'", "pool.columns.label", "image_path, label, patient_id")


def test_a_run_that_never_began_is_started_again_without_a_flag(tmp_path):
    out = tmp_path / "run"
    assert_refused(call("run", "--pool", tmp_path / "typo", "--out", out, *SHORT), "no such file or folder")
    assert call("status", out, "--json").json["state"] == "failed"
    (out / "rounds").mkdir()  # now there is something to lose
    assert_refused(call("run", "--pool", tmp_path / "typo", "--out", out, *SHORT), "holds a run already", "--resume")
    (out / "rounds").rmdir()
    assert_refused(call("run", "--pool", tmp_path / "typo", "--out", out, *SHORT), "no such file or folder")


def test_not_one_scan_can_be_read(tmp_path, pool):
    for path in pool.glob("*.png"):
        path.write_text("no picture")
    answer = call("run", "--pool", pool, "--out", tmp_path / "run", *SHORT)
    assert_refused(answer, "not one of the 24 scans", "its first bytes are text")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (lambda i: ("normal", f"p{i}"), ["one class only", "'normal'", "pool.findings"]),
        (lambda i: (("normal", "b")[i % 2], "one"), ["holdout would be empty", "1 groups", "more patients"]),
    ],
    ids=["one class", "one patient"],
)
def test_pools_nothing_can_be_learnt_from(tmp_path, row, words):
    assert_refused(
        call("run", "--pool", make_pool(tmp_path / "pool", row=row), "--out", tmp_path / "run", *SHORT), *words
    )


@pytest.mark.parametrize(("are", "what"), [("exclusive", "the classes"), ("independent", "the findings")])
def test_classes_that_nothing_names_are_refused_before_a_scan_is_read(tmp_path, monkeypatch, are, what):
    listed, open_pool = [], sources.open_pool

    def counted(config, cache):
        listed.append(config.uri)
        return open_pool(config, cache)

    monkeypatch.setattr(sources, "open_pool", counted)
    monkeypatch.setattr(manifest, "open_pool", counted)
    pool = make_pool(tmp_path / "pool", row=lambda i: ("", f"p{i}"))
    answer = call("run", "--pool", pool, "--out", tmp_path / "run", *SHORT, "--set", f"pool.findings_are={are}")
    assert_refused(answer, f"no labels that name {what}", "pool.findings")
    assert not (tmp_path / "run" / "manifest.parquet").exists() and "manifest:" not in answer.err
    assert len(listed) == 1


def test_identical_scans_are_one_group(tmp_path, pool):
    for path in pool.glob("*.png"):
        path.write_bytes((pool / "s000.png").read_bytes())
    assert_refused(call("run", "--pool", pool, "--out", tmp_path / "run", *SHORT), "24 scans in 1 groups")


def test_findings_that_leave_out_a_label(tmp_path, pool):
    answer = call("run", "--pool", pool, "--out", tmp_path / "run", *SHORT, "--set", "pool.findings=[normal, tb]")
    assert_refused(answer, "pool.findings", "['sick']")


def test_a_finding_the_pool_lacks_has_no_score(tmp_path, pool):
    answer = call("run", "--pool", pool, "--out", tmp_path / "run", *SHORT, "--set", "pool.findings=[normal, sick, tb]")
    assert answer.code == 0, answer.err
    predictions = pq.read_table(tmp_path / "run" / "predictions.parquet")
    assert {"prob_normal", "prob_sick", "prob_tb"} <= set(predictions.column_names)


def test_a_class_that_is_in_the_holdout_alone(tmp_path):
    def row(i):
        return (("normal", "sick")[i // 2 % 2], "train") if i < 16 else (("normal", "sick", "rare")[i % 3], "test")

    pool = make_pool(tmp_path / "pool", columns=("label", "official_split"), row=row)
    answer = call("run", "--pool", pool, "--out", tmp_path / "run", "--json", *SHORT)
    assert answer.code == 0, answer.err
    assert set(answer.json["metrics"][0]["threshold_prob"]) == {"normal", "sick", "rare"}
    assert answer.json["metrics"][0]["num_expert"] == 8


@pytest.mark.parametrize("num", [3, 12])
def test_fewer_scans_than_the_budget(tmp_path, num):
    pool = make_pool(tmp_path / "pool", num=num)
    accept = ("--accept", "too-few-cases", "--because", "a test of the loop's end")
    many = ("--rounds", "3", "--budget", "50")
    answer = call("run", "--pool", pool, "--out", tmp_path / "run", "--json", *SHORT, *many, *accept)
    assert answer.code == 0, answer.err
    assert "fewer than the budget of 50" in answer.err
    assert len(answer.json["metrics"]) == 1  # a second queue would be empty
    assert 0 < answer.json["metrics"][0]["num_expert"] < num


def test_broken_scans_are_rows_and_strange_names_are_only_names(tmp_path):
    pool = tmp_path / "a \"pool' <script>alert(1)<"
    for name, bright in (("normal", 0), ("<script>alert(2)<", 60)):
        (pool / name).mkdir(parents=True)
        for i in range(14):
            picture(i + bright, bright).save(pool / name / f"ö'\" <b>{i:02d}.png")
    broken = {
        "cut.jpg": "its pixels cannot be decoded",
        "text.png": "not a PNG, JPEG, TIFF or DICOM image: its first bytes are text",
        "bomb.png": "its picture would take 2,574 MiB while it is decoded",
        "empty.png": "the file is empty",
        "gone.png": "the file is missing",
    }
    picture(1).save(pool / "normal" / "cut.jpg")
    (pool / "normal" / "cut.jpg").write_bytes((pool / "normal" / "cut.jpg").read_bytes()[:-400])
    (pool / "normal" / "text.png").write_text("hello")
    bomb(pool / "normal" / "bomb.png")
    (pool / "normal" / "empty.png").touch()
    (pool / "normal" / "gone.png").symlink_to(pool / "nowhere.png")
    out = tmp_path / "out ü '\"<script>alert(3)"
    answer = call("run", "--pool", pool, "--out", out, *SHORT)
    assert answer.code == 0, answer.err
    rows = {Path(row["path"]).name: row for row in pq.read_table(out / "manifest.parquet").to_pylist()}
    assert len(rows) == 14 + len(broken)  # the file names of both classes are the same
    for name, reason in broken.items():
        assert (rows[name]["status"], rows[name]["reason"][: len(reason)]) == ("quarantined", reason)
    assert "5 of 33 scans are quarantined" in answer.err
    for page in ("report/index.html", "rounds/01/queue.html"):
        assert "<script>alert" not in (out / page).read_text("utf-8")


# --- backbones and engines


def test_weights_that_would_need_a_download(tmp_path, pool, monkeypatch):
    def offline(*_, **__):
        raise OSError("cannot reach the hub")

    monkeypatch.setattr("timm.create_model", offline)
    hub = ("--set", "backbone.name=timm:resnet18", "--set", "backbone.weights=null")
    answer = call("run", "--pool", pool, "--out", tmp_path / "run", *SHORT, *hub)
    assert_refused(answer, "'timm:resnet18'", "cannot reach the hub", "backbone.weights")


def test_weights_that_are_absent(tmp_path, pool):
    answer = call("run", "--pool", pool, "--out", tmp_path / "run", *SHORT, "--set", "backbone.weights=/nowhere.pth")
    assert_refused(answer, "backbone.weights", "'/nowhere.pth'")


def test_more_than_this_machine_has(tmp_path, pool, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    arguments = ("run", "--pool", pool, "--out", tmp_path / "run", *SHORT)
    assert_refused(call(*arguments, "--set", "engine.num_gpus_per_task=1"), "engine.num_gpus_per_task", "there are 0")
    assert_refused(call(*arguments, "--set", "train.num_workers=2"), "train.num_workers", "backend=ray")


# --- run directories


def test_a_folder_that_is_not_ours_is_not_touched(tmp_path, pool):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.txt").write_text("x")
    before = listing(folder)
    for flags in ([], ["--resume"], ["--overwrite"], ["--dry-run"]):
        answer = call("run", "--pool", pool, "--out", folder, *SHORT, *flags)
        assert_refused(answer, folder, "not a run (thesis.txt)", "--out")
    assert_refused(call("embed", pool, "--out", folder), "not a run")
    for command in (["status", folder], ["report", folder], ["labels", "import", folder, folder / "thesis.txt"]):
        assert_refused(call(*command), "is not a run directory", "--out")
    assert listing(folder) == before


@pytest.mark.parametrize("inside", ["", "/x"])
def test_out_is_a_file_or_below_one(tmp_path, pool, inside):
    (tmp_path / "file").write_text("x")
    assert_refused(call("run", "--pool", pool, "--out", f"{tmp_path}/file{inside}", *SHORT), tmp_path / "file", "--out")
    assert (tmp_path / "file").read_text() == "x"


def test_out_cannot_be_made(tmp_path, pool, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        answer = call("run", "--pool", pool, "--out", out, *SHORT)
    assert_refused(answer, out, "Permission denied", "--out")


def test_a_finished_run_wants_a_flag(done):
    before = listing(done)
    assert_refused(call("run", "--out", done, *FAST), "holds a run already (state: done)", "--resume", "--overwrite")
    assert listing(done) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--seed", "5"], ["seed", "0", "5"]), (["--set", "oracle=false"], ["oracle", "True", "False"])],
)
def test_what_cannot_change_on_resume(done, arguments, words):
    before = listing(done)
    assert_refused(call("run", "--out", done, "--resume", *arguments), "cannot change on --resume", *words)
    assert listing(done) == before


def test_the_salt_is_never_told(done):
    answer = call("run", "--out", done, "--resume", "--set", "splits.salt=hush-hush")
    assert_refused(answer, "splits.salt", "cannot change on --resume")
    assert "hush-hush" not in answer.err
    assert "cxr-ssl'" not in answer.err


def test_a_locked_run_is_left_alone(done):
    with FileLock(done / ".lock"):
        before = listing(done)
        for command in (
            ["run", "--out", done, "--resume"],
            ["run", "--out", done, "--overwrite", *FAST],
            ["report", done],
            ["labels", "import", done, done / "rounds" / "01" / "queue.csv"],
        ):
            assert_refused(call(*command), done, "another process is working")
        assert call("status", done).code == 0
        assert listing(done) == before


def test_files_of_a_run_that_somebody_broke_are_named(done, tmp_path):
    broken = shutil.copytree(done, tmp_path / "run")
    (broken / "status.json").write_text("{")
    assert_refused(call("status", broken), "status.json", "not JSON")
    (broken / "status.json").unlink()
    (broken / "labels.parquet").write_bytes(b"junk")
    assert_refused(call("status", broken), "labels.parquet", "cannot be read", code=1)
    (broken / "resolved.yaml").write_text("seed: [")
    assert_refused(call("run", "--out", broken, "--resume"), "resolved.yaml:1", "is not YAML")


# --- accidents


def test_a_run_survives_what_may_happen(tmp_path, pool, monkeypatch):
    out = tmp_path / "run"
    arguments = ("run", "--pool", pool, "--out", out, *SHORT)

    def stumble(_):
        raise ZeroDivisionError("over\nthere")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.rounds.loop, "run", stumble)
        answer = call(*arguments)
    assert answer.code == 1
    assert "Traceback" not in answer.err
    (line,) = answer.message.splitlines()
    assert line.startswith("internal error: ZeroDivisionError: over there.")
    assert str(out / "crash.log") in line
    assert "in stumble" in (out / "crash.log").read_text("utf-8")
    assert call("status", out, "--json").json["state"] == "failed"

    def stop(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.rounds.loop, "run", stop)
        answer = call(*arguments, "--resume")
    assert answer.code == 130
    assert answer.message == f"stopped: {out}: stopped by the user. What is finished is kept; go on with --resume."

    def terminate(_):
        with contextlib.suppress(KeyboardInterrupt):  # a library that swallows it does not keep the run going
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.rounds.loop, "run", terminate)
        answer = call(*arguments, "--resume", "--json")
    assert answer.code == 143 and "stopped by SIGTERM. What is finished is kept" in answer.message
    assert answer.json["state"] == "stopped"
    found = call("status", out, "--json").json
    assert (found["state"], found["message"]) == ("stopped", "stopped by SIGTERM")

    replacing, is_full = tables._replacing, False

    @contextlib.contextmanager
    def full(path):
        nonlocal is_full
        is_full = is_full or path.name == "predictions.parquet"
        with replacing(path) as temporary:
            if is_full:  # from then on not even the state can be written
                raise OSError(errno.ENOSPC, "as a library words it")
            yield temporary

    with monkeypatch.context() as patch:
        patch.setattr(tables, "_replacing", full)
        patch.setattr(storage, "WAITS_SECONDS", ())
        answer = call(*arguments, "--resume")
    assert_refused(answer, "predictions.parquet: No space left on device. Make room", "--resume", code=1)

    answer = call(*arguments, "--resume", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["metrics"][0]["num_expert"] == 8


@pytest.mark.parametrize(
    ("error", "code", "start"),
    [
        (ValueError("odd"), 1, "internal error: ValueError: odd."),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on device. Make room"),
        (OSError(errno.ESTALE, "Stale file handle", "/x"), 1, "error: /x: Stale file handle. Look at the storage"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "error: /x: Permission denied. Mend"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "internal error: OSError"),
    ],
)
def test_an_unexpected_error_is_one_line(tmp_path, monkeypatch, error, code, start):
    def stumble(_):
        raise error

    monkeypatch.setattr(status, "status", stumble)
    answer = call("status", tmp_path)
    assert (answer.code, answer.out) == (code, "")
    assert len(answer.err.splitlines()) == 1
    assert answer.err.startswith(start)
    monkeypatch.setenv("CXR_SSL_DEBUG", "1")
    with pytest.raises(type(error)):
        call("status", tmp_path)


# --- what is imported


@pytest.mark.parametrize("module", ["pipeline.cli", "jobs.run_rounds", "jobs.embed", "jobs.predict"])
def test_help_answers_without_the_heavy_libraries(module):
    code = (
        f"import sys; sys.argv[1:] = ['--help']; import {module} as m\n"
        "try: m.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'ray', 'faiss', 'timm', 'lightly', 'sklearn', 'scipy', 'matplotlib', 'pandas', 'pyarrow'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "--help" in answer.stdout


def test_a_run_without_a_configuration_has_the_quickstart():
    assert request.quickstart().is_file()


def test_a_hint_to_resume_names_the_run():
    texts = [path for ending in ("py", "json", "j2", "js") for path in (ROOT / "pipeline").rglob(f"*.{ending}")]
    hints = [hint for path in texts for hint in re.findall(r"cxr-ssl run\b[^`\"\n]*--resume", path.read_text("utf-8"))]
    assert len(hints) > 10 and [hint for hint in hints if "--out" not in hint] == []
