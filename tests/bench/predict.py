"""`cxr-ssl predict` and the exported `predict.py`: how fast, as ratios to bare onnxruntime, and how exactly the run's.

Speed: whole processes for one file; one file after the other in a process that has loaded the model; hundreds of files.
Exactness: real scans of the run, written in every form of storage, read by the product and, in a fresh environment with
nothing but numpy, onnxruntime and Pillow (and pydicom), by the exported script.
"""

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from embeddings import onnx_file
from embeddings.decode import open_scan, scan_square
from pipeline.commands import export
from pipeline.contracts.options.running import EngineConfig
from pipeline.contracts.tables import PREDICTIONS
from pipeline.evidence import other_pool
from pipeline.predict import other_scans, predict_pool, predictor, recipe, scan_shard
from pipeline.runtime.engine import make_engine
from tests.bench import tables
from tests.bench.outside import kermany_run

PASSES = 2
NUM_BATCH, NUM_WARM, NUM_COLD = 512, 100, 5
NUM_FORMS = 12  # scans, each in every form
BARE = ("numpy", "onnxruntime", "pillow")
BARE_START = (
    "import sys, numpy as np, onnxruntime as ort; s = ort.InferenceSession(sys.argv[1]); "
    "s.run(None, {'scan': np.zeros((1, 1, int(sys.argv[2]), int(sys.argv[2])), np.float32)})"
)


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/predict-speed.md`."""
    folder = kermany_run(data)
    with tempfile.TemporaryDirectory() as temporary:
        _speed(folder, _some(folder, NUM_BATCH), Path(temporary))


def forms(data: Path, given: Namespace) -> None:
    """Measure and write `results/predict-forms.md`."""
    folder = kermany_run(data)
    with tempfile.TemporaryDirectory() as temporary:
        _forms(folder, _some(folder, NUM_FORMS), Path(temporary))


def _some(folder: Path, num: int) -> list[str]:
    """Addresses of scans of the run, drawn by chance."""
    scans = other_pool.usable_scans(folder)
    chosen = np.random.default_rng(0).permutation(len(scans))[:num]
    uris: list[str] = scans["uri"].take(chosen.tolist()).to_pylist()
    return uris


# --- speed ------------------------------------------------------------------------------------------------------------


def _speed(folder: Path, uris: list[str], temporary: Path) -> None:
    how = recipe.of_run(folder, other_scans.config_for(folder, uris[0], {}))
    assert how.embedder is not None
    model = predictor.load(how)
    squares = [scan_square(uri, how.size_px, 10**9)[None] for uri in uris]
    pool = _manifest(temporary / "pool.csv", uris)
    one, many = onnx_file.session(how.embedder, 1), onnx_file.session(how.embedder, 2)
    engine = make_engine(EngineConfig(backend="ray", num_cpus=2))
    engine.start()  # it stays for all that follows
    _predict(folder, pool, temporary / "first.parquet", "ray")  # its workers load the model
    rows: dict[str, list[float]] = {name: [] for name in _WANTED}
    for number in range(PASSES):
        for turn in range(NUM_COLD):
            out = temporary / f"cold-{number}-{turn}.json"
            ours = _started(["-m", "pipeline", "predict", str(folder), uris[turn], "--out", str(out), "--quiet"])
            bare = _started(["-c", BARE_START, str(how.embedder), str(how.size_px)])
            for name, value in zip(_COLD, (*ours, *bare), strict=True):
                rows[name].append(value)
        for uri, scan in zip(uris[:NUM_WARM], squares[:NUM_WARM], strict=True):
            wall, cpu = _timed(lambda uri=uri: _one(model, uri))
            bare_wall, bare_cpu = _timed(lambda scan=scan: one.run(None, {"scan": scan}))
            for name, value in zip(_WARM, (wall, cpu, bare_wall, bare_cpu), strict=True):
                rows[name].append(1000 * value)
        ours = _timed(lambda number=number: _predict(folder, pool, temporary / f"s{number}.parquet", "serial"))
        bare = _timed(lambda: [one.run(None, {"scan": scan}) for scan in squares])
        rows[_BATCH[0]].append(bare[1] / ours[1])
        rows[_BATCH[1]].append(bare[0] / ours[0])
        ours = _timed(lambda number=number: _predict(folder, pool, temporary / f"r{number}.parquet", "ray"))
        bare = _timed(lambda: [many.run(None, {"scan": scan}) for scan in squares])
        rows[_BATCH[2]].append(bare[0] / ours[0])
    engine.close()
    notes = (
        f"{PASSES} passes in turn on a machine of two cores with other work on them (load {os.getloadavg()[1]:.0f}), "
        f"so that times of processors say more than the clock; {NUM_COLD} starts and {NUM_WARM} single files a "
        "pass. Onnxruntime is bare: it runs the run's embedding network, one scan after the other, on squares that lie "
        "in memory. Predict reads the files from disk in a guarded process of its own, embeds, classifies, works out "
        "the interval of the calibration and the distance from the training pool, and writes Parquet; the guarded "
        "process's time is counted. Ray's workers run and have loaded the model."
    )
    table = [[name, *_three(values), _WANTED[name]] for name, values in rows.items()]
    header = ("measure", "min", "median", "max", "wanted")
    tables.write("predict-speed", "Speed of predict", "python -m tests.bench predict", header, table, notes)


_COLD = (
    "one file, whole process: seconds",
    "one file, whole process: seconds of processors",
    "a process that loads onnxruntime and runs one scan: seconds",
    "a process that loads onnxruntime and runs one scan: seconds of processors",
)
_WARM = (
    "one file, model loaded: milliseconds",
    "one file, model loaded: milliseconds of processors",
    "onnxruntime, scan in memory: milliseconds",
    "onnxruntime, scan in memory: milliseconds of processors",
)
_BATCH = (
    f"{NUM_BATCH} files in this process, rate over that of onnxruntime on one thread, by time of processors",
    "the same by the clock",
    f"{NUM_BATCH} files through Ray, rate over that of onnxruntime on two threads, by the clock",
)
_WANTED = {
    **dict.fromkeys((*_COLD, *_WARM, *_BATCH), ""),
    _COLD[0]: "≤ 3",
    _WARM[0]: "≤ 50",
    _BATCH[0]: "≥ 0.85",
    _BATCH[2]: "≥ 0.85",
}


def _three(values: list[float]) -> list[str]:
    return [f"{value:.2f}" for value in (min(values), float(np.median(values)), max(values))]


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of processors: this process's and those of what reads files for it."""
    wall, cpu = time.perf_counter(), _processor_seconds()
    work()
    return time.perf_counter() - wall, _processor_seconds() - cpu


def _processor_seconds() -> float:
    readers = [child for child in psutil.Process().children() if "guarded_process" in " ".join(child.cmdline())]
    return time.process_time() + sum(sum(reader.cpu_times()[:2]) for reader in readers)


def _started(arguments: list[str]) -> tuple[float, float]:
    """Seconds of the clock and of processors of a whole process and what it starts."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _one(model: predictor.Predictor, uri: str) -> predictor.Predicted:
    _, square_SS = scan_shard.read_row("scan", uri, model.recipe.reading)
    assert square_SS is not None
    return model.predict(square_SS[None, None])


def _predict(folder: Path, pool: Path, out: Path, backend: str) -> None:
    options: dict[str, Any] = {"engine.backend": backend, "engine.num_cpus": 2}
    predict_pool.predict(folder, str(pool), str(out), options, lambda *_: None)


def _manifest(path: Path, uris: list[str]) -> Path:
    path.write_text("\n".join(["image_path", *uris]) + "\n", "utf-8")
    return path


# --- forms of storage -------------------------------------------------------------------------------------------------


def _forms(folder: Path, uris: list[str], temporary: Path) -> None:
    pool = temporary / "forms"
    pool.mkdir()
    for number, uri in enumerate(uris):
        for name, data in _in_every_form(uri).items():
            (pool / f"{number:02d}-{name}").write_bytes(data)
    model = temporary / "model"
    export.export_model(folder, model)
    ours = temporary / "ours.parquet"
    predict_pool.predict(folder, str(pool), str(ours), {}, lambda *_: None)
    of_run = _of_run(folder, uris)
    rows = []
    for packages in (BARE, (*BARE, "pydicom")):
        python = _fresh(temporary / f"environment-{len(packages)}", packages)
        theirs = _exported_rows(python, model, pool, temporary / f"rows-{len(packages)}.json")
        rows += _compared(pq.read_table(ours).to_pylist(), theirs, of_run, ", ".join(packages))
    notes = (
        f"{NUM_FORMS} scans of the run's own, each written in every form. Differences of probabilities and of the ends "
        "of their intervals, the largest; of scores relative. Against the run: `predictions.parquet`; forms of 12 bits "
        "round the grey values of the run's file to other steps, the others hold them as they are. Each environment is "
        "new and holds the packages named and what they bring, nothing of this project."
    )
    header = ("packages", "form", "scans", "script against predict", "its scores", "against the run", "unusable")
    title = "The exported predict.py on every form of storage"
    tables.write("predict-forms", title, "python -m tests.bench predict_forms", header, rows, notes)


def _in_every_form(uri: str) -> dict[str, bytes]:
    grey = np.asarray(open_scan(uri, max_pixels=10**9).eight_bit())
    deep, twelve = grey.astype(np.uint16) * 257, np.rint(grey / 255 * 4095).astype(np.uint16)
    return {
        "8-bit.png": _picture(grey, "PNG"),
        "16-bit.png": _picture(deep, "PNG"),
        "12-in-16.png": _picture(twelve, "PNG"),
        "16-bit.tif": _picture(deep, "TIFF"),
        "8-bit.dcm": _dicom(grey, 8),
        "12-bit.dcm": _dicom(twelve, 12),
        "16-bit.dcm": _dicom(deep, 16),
    }


def _picture(values: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind)
    return stream.getvalue()


def _dicom(values: np.ndarray, bits: int) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, "1.2.3.4"
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    tags = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": "1.2.3.4",
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": 1,
        "BitsAllocated": 8 * values.dtype.itemsize,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": values.tobytes(),
    }
    for name, value in tags.items():
        setattr(made, name, value)
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=False)
    return stream.getvalue()


def _fresh(folder: Path, packages: tuple[str, ...]) -> Path:
    """The interpreter of a new environment that holds these packages."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    versions = [f"onnxruntime=={ort.__version__}" if name == "onnxruntime" else name for name in packages]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *versions], check=True)
    return python


def _exported_rows(python: Path, model: Path, pool: Path, out: Path) -> list[dict[str, Any]]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    subprocess.run([python, model / "predict.py", pool, "--out", out], check=True, env=plain)
    rows: list[dict[str, Any]] = json.loads(out.read_text("utf-8"))["scans"]
    return rows


def _of_run(folder: Path, uris: list[str]) -> list[dict[str, Any]]:
    scans, table = other_pool.usable_scans(folder), PREDICTIONS.read(folder)
    image_id = dict(zip(scans["uri"].to_pylist(), scans["image_id"].to_pylist(), strict=True))
    known = table.filter(pc.is_in(table["image_id"], value_set=scans["image_id"].combine_chunks()))
    rows = {row["image_id"]: row for row in known.to_pylist()}
    return [rows[image_id[uri]] for uri in uris]


def _compared(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]], of_run: list[dict[str, Any]], packages: str
) -> list[list[str]]:
    by_name = {Path(row["path"]).name: row for row in theirs}
    rows = []
    for form in dict.fromkeys(row["path"][3:] for row in ours):
        same = [row for row in ours if row["path"][3:] == form]
        pairs = [(row, by_name[row["path"]]) for row in same]
        both = [(mine, other) for mine, other in pairs if mine["status"] == other["status"] == "ok"]
        reasons = sum(other["status"] != "ok" for _, other in pairs)
        if not both:
            rows.append([packages, form, str(len(same)), "–", "–", "–", f"{reasons}: {pairs[0][1]['reason']}"])
            continue
        names = [name for name in both[0][1] if name.startswith("prob_")]
        apart = max(abs(mine[name] - other[name]) for mine, other in both for name in names)
        scores = max(abs(mine["outside_score"] / other["outside_score"] - 1) for mine, other in both)
        known = [(other, of_run[int(mine["path"][:2])]) for mine, other in both]
        plain = [name for name in names if not name.endswith(("_low", "_high"))]
        to_run = max(abs(other[name] - own[name]) for other, own in known for name in plain)
        shown = [f"{value:.0e}" for value in (apart, scores, to_run)]
        rows.append([packages, form, str(len(same)), *shown, str(reasons)])
    return rows
