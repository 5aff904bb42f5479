"""What `predict` writes for a hospital: heat maps, structured reports, captures; a watched folder; a server."""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import httpx2 as httpx
import numpy as np
import psutil
import pydicom
import pytest
from filelock import FileLock
from PIL import Image
from starlette import testclient

from pipeline.commands import predict as commands_predict
from pipeline.contracts.errors import InputError
from pipeline.predict import other_scans, predictor, recipe
from pipeline.predict.deployed import replicas, service, watch
from pipeline.predict.heat_maps import occlusion, of_run
from pipeline.predict.heat_maps.checks import Check
from pipeline.predict.predict_pool import Beside
from tests.pool.test_reading import png
from tests.support.dicom_files import MISSING, chest, file_bytes
from tests.support.tiny import FAST, call, make_pool

TOKEN = "a token that is long enough"
SHOWN = Check(20, 18, 0.7, 0.1, {"the head": 0.2}, None)
REFUSED = Check(3, 0, None, None, {}, "a planted opacity raises it in 3 scans")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospital")
    pool = make_pool(folder / "pool", num=24)
    plain = ("--set", "calibrate.num_folds=2", "--set", "audit.num_bootstrap=0")
    done = call(
        "run", "--pool", pool, "--oracle", "--rounds", 1, "--budget", 10, "--out", folder / "run", *FAST, *plain
    )
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture
def checked(run, monkeypatch):
    """Checks of the run's maps that were made up: one class may be shown."""
    how = recipe.of_run(run, other_scans.config_for(run, str(run), {}))
    scans = [(chest(seed, 64, bits=8) / 255).astype(np.float32) for seed in range(2)]
    references = occlusion.references(scans, predictor.load(how).evidence)
    known = of_run.Checked({"sick": SHOWN, "normal": REFUSED}, references)
    monkeypatch.setattr(of_run, "checked", lambda model: known)
    return known


def scan(seed=0, **tags):
    known = {"BitsStored": 12, "StudyDate": "20240102", "PatientSex": "F"}
    return file_bytes(chest(seed, 80, bits=12)[:60], **known | tags)


def test_heat_maps_and_dicom_objects_lie_beside_the_rows(run, checked, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "a.dcm").write_bytes(scan())
    (pool / "b.png").write_bytes(png(chest(1, 64, bits=12)))
    (pool / "broken.png").write_bytes(b"no picture")
    made = []
    for turn in ("one", "two"):
        out, maps, dicom = tmp_path / f"{turn}.json", tmp_path / f"{turn}-maps", tmp_path / f"{turn}-dicom"
        answer = call("predict", run, pool, "--out", out, "--heat-maps", maps, "--dicom", dicom)
        assert answer.code == 0, answer.err
        made.append({path.name: path.read_bytes() for folder in (maps, dicom) for path in sorted(folder.iterdir())})
    assert made[0] == made[1]  # the same scans give the same bytes
    assert set(made[0]) == {"checks.json", "a.dcm.sick.png", "b.png.sick.png", "a.dcm.sr.dcm", "a.dcm.sick.dcm"}
    assert "no heat maps of normal: a planted opacity raises it in 3 scans" in answer.err
    with Image.open(io.BytesIO(made[0]["a.dcm.sick.png"])) as picture:
        assert picture.width == 512 and "worse than radiologists" in picture.text["Warning"]
    rows = {row["path"]: row for row in json.loads(out.read_text("utf-8"))["scans"]}
    assert "no DICOM objects: the file is not DICOM" in rows["b.png"]["note"] and rows["broken.png"]["status"] != "ok"
    check_report(pydicom.dcmread(io.BytesIO(made[0]["a.dcm.sr.dcm"])), rows["a.dcm"])
    capture = pydicom.dcmread(io.BytesIO(made[0]["a.dcm.sick.dcm"]))
    assert capture.StudyInstanceUID == "1.2.3" and capture.SeriesInstanceUID != "1.2.3.1"
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4" and capture.BurnedInAnnotation == "YES"
    assert "worse than radiologists" in capture.ImageComments and capture.pixel_array.shape[2] == 3


def check_report(report, row):
    assert report.Modality == "SR" and report.StudyInstanceUID == "1.2.3" and report.PatientID == "PAT-1234"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.SeriesInstanceUID == "1.2.3.1"
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    items = list(walk(report))
    words = {item.ConceptCodeSequence[0].CodeMeaning for item in items if item.ValueType == "CODE"}
    assert "Not for diagnostic use" in words and {"sick", "normal"} <= words
    numbers = [float(i.MeasuredValueSequence[0].NumericValue) for i in items if i.ValueType == "NUM"]
    assert any(abs(number - row["prob_sick"]) < 1e-6 for number in numbers)
    assert "NOT FOR DIAGNOSTIC USE" in report.SeriesDescription


def walk(item):
    for child in item.get("ContentSequence", ()):
        yield child
        yield from walk(child)


def test_a_header_without_its_study_or_with_odd_values_ends_nothing(run, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "nameless.dcm").write_bytes(scan(1, StudyInstanceUID=MISSING))
    (pool / "odd.dcm").write_bytes(scan(2, PatientSex=MISSING, PatientName=MISSING, PatientID="P" * 64, StudyID="x"))
    answer = call("predict", run, pool, "--out", tmp_path / "rows.json", "--dicom", tmp_path / "dicom")
    assert answer.code == 0, answer.err
    rows = {row["path"]: row for row in json.loads((tmp_path / "rows.json").read_text("utf-8"))["scans"]}
    assert rows["nameless.dcm"]["note"].endswith("no DICOM objects: its header lacks StudyInstanceUID")
    assert [path.name for path in (tmp_path / "dicom").iterdir()] == ["odd.dcm.sr.dcm"]


def test_without_a_map_that_may_be_shown_nothing_is_written(run, monkeypatch, tmp_path):
    monkeypatch.setattr(of_run, "checked", lambda model: of_run.Checked({"sick": REFUSED}, {}))
    wanted = ("--out", tmp_path / "rows.json", "--heat-maps", tmp_path / "maps")
    answer = call("predict", run, run.parent / "pool", *wanted)
    assert answer.code == 2 and "no heat map of this model has passed its checks: sick: a planted" in answer.message
    (tmp_path / "maps").mkdir()
    there = call("predict", run, run.parent / "pool", *wanted)
    assert there.code == 2 and "is there already" in there.message
    assert [path.name for path in tmp_path.iterdir()] == ["maps"]


def test_the_checks_of_a_run_are_made_once(run, monkeypatch):
    monkeypatch.setattr(of_run, "NUM_SCANS", 3)
    monkeypatch.setattr(of_run, "NUM_REFERENCE", 2)
    model = predictor.load(recipe.of_run(run, other_scans.config_for(run, str(run), {})))
    first = of_run.checked(model)
    assert set(first.checks) == {"normal", "sick"}
    assert all(check.reason.startswith("a planted opacity raises it in") for check in first.checks.values())
    monkeypatch.setattr(of_run, "_training_scans", lambda recipe: pytest.fail("they were made again"))
    again = of_run.checked(model)
    assert again.checks == first.checks
    np.testing.assert_array_equal(again.references["sick"].mean_K, first.references["sick"].mean_K)


# --- a watched folder


def watched(run, inbox, outbox, looks, between=lambda look: None):
    """Watch for so many looks; `between` is called before each but the first."""
    how, files = watch.prepared(run, str(inbox), {}, Beside())
    left = iter(range(1, looks))

    def wait():
        look = next(left, None)
        if look is not None:
            between(look)
        return look is not None

    return watch.watch(how, files, inbox, watch.open_outbox(f"{outbox}/", inbox), wait)


def test_each_scan_is_predicted_once_when_it_has_stopped_growing(run, tmp_path):
    inbox, data = tmp_path / "inbox", png(chest(3, 64, bits=12))
    (inbox / "study").mkdir(parents=True)
    (inbox / "study" / "a.png").write_bytes(data)
    (inbox / "growing.png").write_bytes(data[:100])
    (inbox / "half.png.part").write_bytes(data[:50])
    (inbox / "text.png").write_bytes(b"no picture")

    def arrive(look):
        if look == 1:
            (inbox / "growing.png").write_bytes(data[:-9])
        if look == 2:
            (inbox / "growing.png").write_bytes(data)

    done = watched(run, inbox, tmp_path / "out", 4, arrive)
    assert (done.num_predicted, done.num_quarantined) == (2, 1)
    row = json.loads((tmp_path / "out" / "rows" / "study" / "a.png.json").read_text("utf-8"))
    assert row["status"] == "ok" and row["prob_sick"] + row["prob_normal"] == pytest.approx(1)
    bad = tmp_path / "out" / "quarantine"
    assert (bad / "text.png").read_bytes() == b"no picture" and not (inbox / "text.png").exists()
    assert "not a PNG" in json.loads((bad / "text.png.json").read_text("utf-8"))["reason"]
    again = watched(run, inbox, tmp_path / "out", 3)
    assert (again.num_predicted, again.num_quarantined) == (0, 0)


def test_a_watcher_that_was_killed_goes_on(run, tmp_path):
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    for name in ("a.png", "b.png"):
        (inbox / name).write_bytes(png(chest(4, 64, bits=12)))
    assert watched(run, inbox, out, 2).num_predicted == 2
    state, row = out / "watched.jsonl", out / "rows" / "b.png.json"
    before, lines = row.read_bytes(), state.read_text("utf-8").splitlines(keepends=True)
    state.write_text(lines[0] + lines[1][:20], "utf-8")  # it was killed while it wrote
    row.unlink()
    assert watched(run, inbox, out, 2).num_predicted == 1
    assert row.read_bytes() == before and len(state.read_text("utf-8").splitlines()) == 2


def test_a_watcher_refuses_what_it_could_harm(run, tmp_path):
    inbox, other = tmp_path / "inbox", tmp_path / "other"
    inbox.mkdir()
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    for out, message in (
        (f"{inbox}/out/", "lies in the folder that is watched"),
        (f"{tmp_path}/", "lies in the folder that is watched, or around it"),
        (f"{other}/", "holds something else"),
        (f"{tmp_path}/rows.csv", "a watcher writes a folder"),
    ):
        with pytest.raises(InputError, match=message):
            watch.open_outbox(out, inbox)
    answer = call("predict", run, tmp_path / "gone", "--watch", "--out", f"{tmp_path}/out/")
    assert answer.code == 2 and "is no folder that can be watched" in answer.message


def test_the_command_watches_until_it_is_told_to_end_and_alone(run, tmp_path, monkeypatch):
    inbox, looks = tmp_path / "inbox", iter((False, False, True))
    inbox.mkdir()
    (inbox / "a.dcm").write_bytes(scan(5))

    class Ended:
        def wait(self, seconds):
            return next(looks)

    monkeypatch.setattr(commands_predict, "_ended", lambda: contextlib.nullcontext(Ended()))
    wanted = ("--watch", "--out", f"{tmp_path}/out/", "--dicom", tmp_path / "objects", "--json")
    done = call("predict", run, inbox, *wanted)
    assert done.code == 0 and done.json["num_predicted"] == 1, done.err
    assert [path.name for path in (tmp_path / "objects").iterdir()] == ["a.dcm.sr.dcm"]
    with FileLock(tmp_path / "out" / watch.LOCK):
        second = call("predict", run, inbox, *wanted)
    assert second.code == 2 and "another watcher writes there" in second.message


def test_a_watcher_ends_when_its_process_is_told_to():
    with commands_predict._ended() as ended:
        assert not ended.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert ended.wait(5)


# --- a server


@pytest.fixture(scope="module")
def client(run):
    with testclient.TestClient(service.app(run, TOKEN, max_bytes=200_000)) as running:
        running.headers["Authorization"] = f"Bearer {TOKEN}"
        yield running


def test_a_scan_gets_the_row_that_predict_writes(run, client, tmp_path):
    (tmp_path / "a.dcm").write_bytes(scan(7))
    assert call("predict", run, tmp_path / "a.dcm", "--out", tmp_path / "rows.json").code == 0
    (row,) = json.loads((tmp_path / "rows.json").read_text("utf-8"))["scans"]
    answer = client.post("/predict", content=scan(7))
    assert answer.status_code == 200 and answer.json()["not_for_diagnostic_use"] is True
    assert {name: answer.json()[name] for name in row if name not in ("path", "image_id")} == {
        name: value for name, value in row.items() if name not in ("path", "image_id")
    }


def test_a_wrong_token_a_long_body_and_a_broken_scan_are_refused(client):
    for header in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}, {"Authorization": f"Basic {TOKEN}"}):
        assert client.post("/predict", content=b"x", headers=header).status_code == 401
        assert client.get("/metrics", headers=header).status_code == 401
    assert client.post("/predict", content=b"x" * 200_001).status_code == 413
    assert client.post("/predict", content=(b"x" * 1000 for _ in range(300))).status_code == 413  # of unsaid length
    assert client.post("/predict", content=b"").status_code == 400
    broken = client.post("/predict", content=b"no picture")
    assert broken.status_code == 422 and "not a PNG" in broken.json()["reason"]
    assert client.get("/predict").status_code == 405
    assert client.post("/predict", content=scan(8)).status_code == 200  # and the server is still well


def test_scans_that_come_together_are_predicted_together(client, monkeypatch):
    sizes, rows = [], service.Model.rows

    def counted(self, scans):
        sizes.append(len(scans))
        return rows(self, scans)

    monkeypatch.setattr(service.Model, "rows", counted)
    monkeypatch.setattr(service, "BATCH_SECONDS", 0.5)
    answers = []
    threads = [
        threading.Thread(target=lambda seed=seed: answers.append(client.post("/predict", content=scan(seed))))
        for seed in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {200} and sum(sizes) == 5 and max(sizes) > 1
    assert len({answer.json()["sha256"] for answer in answers}) == 5


def test_a_batch_that_fails_is_told_and_ends_nothing(client, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(service.Model, "rows", lambda self, scans: 1 / 0)
        assert client.post("/predict", content=scan(9)).status_code == 500
    assert client.post("/predict", content=scan(9)).status_code == 200


def test_health_and_metrics_say_how_it_goes(client):
    health = client.get("/health", headers={"Authorization": ""})
    assert health.status_code == 200 and health.json()["status"] == "ok" and health.json()["round"] == 1
    client.post("/predict", content=b"no picture")
    text = client.get("/metrics").text
    assert 'cxr_ssl_answers_total{status="422"}' in text and "cxr_ssl_answer_seconds_count" in text


def test_others_may_ask_only_with_a_long_token(run, tmp_path, monkeypatch):
    monkeypatch.delenv(service.TOKEN, raising=False)
    assert service.token_of(None, "127.0.0.1") is None
    with pytest.raises(InputError, match="others could ask without a token"):
        service.token_of(None, "0.0.0.0")
    (tmp_path / "token").write_text("short\n")
    answer = call("serve", run, "--token-file", tmp_path / "token")
    assert answer.code == 2 and "the token is shorter than 16 characters" in answer.message
    monkeypatch.setenv(service.TOKEN, TOKEN)
    assert service.token_of(None, "0.0.0.0") == TOKEN
    with pytest.raises(InputError, match="cannot be read"):
        service.token_of(tmp_path / "missing", "127.0.0.1")


def test_a_server_that_is_told_to_end_has_not_failed(run, monkeypatch):
    def told_to_end(server, sockets):
        raise KeyboardInterrupt

    monkeypatch.setattr(service, "app", lambda *options: None)
    monkeypatch.setattr("uvicorn.Server.run", told_to_end)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert call("serve", run, "--port", port).code == 0


def test_replicas_serve_what_the_environment_says_and_a_run_without_a_classifier_is_refused_before_they_start(
    run, tmp_path, monkeypatch
):
    started = []
    monkeypatch.setattr(replicas, "supervise", started.append)
    monkeypatch.setenv(service.TOKEN, TOKEN)
    monkeypatch.setenv(replicas.SETTINGS, "")  # so that it is as it was afterwards
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for num in (1, 2):
            answer = call("serve", run, "--replicas", num, "--port", port)
            assert answer.code == 2 and "the port is taken" in answer.message and not started
    answer = call("serve", run, "--replicas", 2, "--port", port, "--max-bytes", 200_000)
    assert answer.code == 0, answer.err
    (options,) = started
    assert (options.app, options.factory) == ("pipeline.predict.deployed.replicas:app", True)
    assert (options.workers, options.port) == (2, port)
    assert options.timeout_worker_healthcheck == replicas.START_SECONDS > 5  # uvicorn's own is shorter than a start
    with testclient.TestClient(replicas.app()) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert client.post("/predict", content=scan(3)).status_code == 200
        assert client.post("/predict", content=b"x" * 200_001).status_code == 413
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "rounds" / "01" / "model")
    answer = call("serve", copy, "--replicas", 2)
    assert (
        answer.code == 2 and "no round of this run has learned a classifier yet" in answer.message and len(started) == 1
    )


def test_a_replica_that_cannot_start_says_so_to_its_supervisor(tmp_path, monkeypatch):
    from uvicorn.main import STARTUP_FAILURE

    settings = {"folder": str(tmp_path), "host": "127.0.0.1", "token_file": None, "max_bytes": 1}
    monkeypatch.setenv(replicas.SETTINGS, json.dumps(settings))
    with pytest.raises(SystemExit) as end:
        replicas.app()
    assert end.value.code == STARTUP_FAILURE


@pytest.mark.parametrize("is_in_file", [True, False])
def test_what_a_replica_starts_inherits_no_token(run, tmp_path, monkeypatch, is_in_file):
    (tmp_path / "token").write_text(TOKEN)
    known = []
    monkeypatch.setattr(replicas, "supervise", lambda options: known.append(os.environ.get(service.TOKEN)))
    monkeypatch.setattr(service, "Model", lambda *options: None)
    monkeypatch.setattr(service, "app", lambda folder, token, _: known.extend((token, os.environ.get(service.TOKEN))))
    monkeypatch.setenv(replicas.SETTINGS, "")
    monkeypatch.setenv(service.TOKEN, TOKEN)
    if is_in_file:
        monkeypatch.delenv(service.TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    replicas.serve(run, "127.0.0.1", port, tmp_path / "token" if is_in_file else None, 1, 2)
    replicas.app()
    assert known == [None if is_in_file else TOKEN, TOKEN, None]


def test_a_replica_killed_while_it_starts_is_replaced_without_waiting_for_its_answer(monkeypatch):
    import uvicorn
    from uvicorn.supervisors import multiprocess

    monkeypatch.setattr("signal.signal", lambda *_: None)  # the supervisor would take the signals of the tests
    options = uvicorn.Config("none:app", workers=1, timeout_worker_healthcheck=60)
    replica = multiprocess.Process(options, [])
    child = subprocess.Popen(["sleep", "600"], pass_fds=[replica.child_conn.fileno()])  # it holds the pipe, and is mute
    replica.process = SimpleNamespace(
        is_alive=lambda: child.poll() is None, kill=child.kill, join=child.wait, exitcode=-9, pid=child.pid
    )
    answers, poll = [], replica.parent_conn.poll

    def answered(seconds):
        child.kill()  # behind the look whether it lives
        answers.append(poll(seconds))
        return answers[-1]

    monkeypatch.setattr(
        replica,
        "parent_conn",
        SimpleNamespace(
            poll=answered, send=replica.parent_conn.send, recv=replica.parent_conn.recv, close=replica.parent_conn.close
        ),
    )
    fresh = []
    monkeypatch.setattr(multiprocess, "Process", lambda *_: SimpleNamespace(start=lambda: fresh.append("started")))
    supervisor = replicas.supervisor(options, [])
    supervisor.processes = [replica]
    supervisor.keep_subprocess_alive()
    assert (answers, fresh) == ([True], ["started"])  # the pipe's end is news; False: the time was up


@pytest.mark.slow
def test_when_a_replica_is_killed_the_others_answer_and_it_comes_back(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jobs.serve", str(run), "--port", str(port), "--replicas", "2"]
    server = subprocess.Popen(command, env=os.environ | {service.TOKEN: TOKEN})
    headers = {"Authorization": f"Bearer {TOKEN}"}

    def ask():
        return httpx.post(f"http://127.0.0.1:{port}/predict", content=scan(3), headers=headers, timeout=60).status_code

    def is_replica(child):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, and its supervisor has not seen it yet
            return "spawn_main" in " ".join(child.cmdline())
        return False

    def working():
        return [child for child in psutil.Process(server.pid).children() if is_replica(child)]

    def until(condition):
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.2)

    def answers():
        with contextlib.suppress(httpx.TransportError):
            return ask() == 200
        return False

    try:
        until(answers)
        until(lambda: len(working()) == 2)
        killed = working()[0]
        killed.kill()
        until(answers)
        until(lambda: len([one for one in working() if one.pid != killed.pid and one.is_running()]) == 2)
        assert ask() == 200
    finally:
        server.terminate()
        server.wait(60)
