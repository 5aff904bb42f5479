"""`cxr-ssl predict` and the exported `predict.py`: how fast, as ratios to bare onnxruntime, and how exactly the run's.

Speed: whole processes for one file; one file after the other in a process that has loaded the model; hundreds of files.
Exactness: real scans of the run, written in every form of storage, read by the product and, in a fresh environment with
nothing but numpy, onnxruntime and Pillow (and pydicom), by the exported script.
"""

import io
import json
import os
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
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from embeddings import onnx_file
from embeddings.decode import open_scan, scan_square
from pipeline.commands import export
from pipeline.contracts.tables import PREDICTIONS
from pipeline.evidence import other_pool
from pipeline.predict import other_scans, predict_pool, predictor, recipe, scan_shard
from tests.bench import tables
from tests.bench.outside import kermany_run

PASSES = 3
NUM_BATCH, NUM_WARM, NUM_COLD = 512, 100, 5
NUM_FORMS = 12  # scans, each in every form
BARE = ("numpy", "onnxruntime", "pillow")
BARE_START = (
    "import sys, numpy as np, onnxruntime as ort; s = ort.InferenceSession(sys.argv[1]); "
    "s.run(None, {'scan': np.zeros((1, 1, int(sys.argv[2]), int(sys.argv[2])), np.float32)})"
)


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/predict-speed.md` and `results/predict-forms.md`."""
    folder = kermany_run(data)
    scans = other_pool.usable_scans(folder)
    chosen = np.random.default_rng(0).permutation(len(scans))[:NUM_BATCH]
    uris = scans["uri"].take(chosen.tolist()).to_pylist()
    with tempfile.TemporaryDirectory() as temporary:
        _speed(folder, uris, Path(temporary))
        _forms(folder, uris[:NUM_FORMS], Path(temporary))


# --- speed ------------------------------------------------------------------------------------------------------------


def _speed(folder: Path, uris: list[str], temporary: Path) -> None:
    how = recipe.of_run(folder, other_scans.config_for(folder, uris[0], {}))
    assert how.embedder is not None
    model = predictor.Predictor(how)
    squares = [scan_square(uri, how.size_px, 10**9)[None] for uri in uris]
    pool = _manifest(temporary / "pool.csv", uris)
    one, many = onnx_file.session(how.embedder, 1), onnx_file.session(how.embedder, 2)
    cold, bare_cold, warm, bare_warm, ratio = [], [], [], [], {"serial": [], "ray": []}
    for number in range(PASSES):
        for turn in range(NUM_COLD):
            out = temporary / f"cold-{number}-{turn}.json"
            command = ["-m", "pipeline", "predict", str(folder), uris[turn], "--out", str(out), "--quiet"]
            cold.append(_seconds(lambda command=command: _python(command)))
            bare_cold.append(_seconds(lambda: _python(["-c", BARE_START, str(how.embedder), str(how.size_px)])))
        warm += [_seconds(lambda uri=uri: _one(model, uri)) for uri in uris[:NUM_WARM]]
        bare_warm += [_seconds(lambda scan=scan: one.run(None, {"scan": scan})) for scan in squares[:NUM_WARM]]
        for backend, session in (("serial", one), ("ray", many)):
            ours = _rate(folder, pool, temporary / f"{backend}-{number}.parquet", backend)
            bare = len(squares) / _seconds(lambda session=session: [session.run(None, {"scan": s}) for s in squares])
            ratio[backend].append(ours / bare)
    rows = [
        ["one file, whole process, s", *_three(cold), "≤ 3"],
        ["the same of a process that loads onnxruntime and runs one scan, s", *_three(bare_cold), ""],
        ["one file, model loaded, ms", *_three([1000 * s for s in warm]), "≤ 50"],
        ["the same of onnxruntime, scan in memory, ms", *_three([1000 * s for s in bare_warm]), ""],
        [f"{NUM_BATCH} files in this process / onnxruntime on one thread", *_three(ratio["serial"], 2), "≥ 0.85"],
        [f"{NUM_BATCH} files through Ray / onnxruntime on two threads", *_three(ratio["ray"], 2), "≥ 0.85"],
    ]
    notes = (
        f"{PASSES} passes in turn on a machine with other work; {NUM_COLD} starts and {NUM_WARM} single files a pass. "
        "Onnxruntime is bare: it runs the run's embedding network, one scan after the other, on squares that lie in "
        "memory. Predict reads the files from disk in a guarded process of its own, embeds, classifies, works out the "
        "interval of the calibration and the distance from the training pool, and writes Parquet. Through Ray the rate "
        "is that between the first and the last shard."
    )
    header = ("measure", "min", "median", "max", "wanted")
    tables.write("predict-speed", "Speed of predict", "python -m tests.bench predict", header, rows, notes)


def _three(values: list[float], digits: int = 2) -> list[str]:
    return [f"{value:.{digits}f}" for value in (min(values), float(np.median(values)), max(values))]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _python(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _one(model: predictor.Predictor, uri: str) -> predictor.Predicted:
    _, square_SS = scan_shard.read_row("scan", uri, model.recipe.reading)
    assert square_SS is not None
    return model.predict(square_SS[None, None])


def _rate(folder: Path, pool: Path, out: Path, backend: str) -> float:
    """Scans a second; through Ray between the first shard and the last, without its start."""
    seen: list[tuple[float, int]] = []
    options = {"engine.backend": backend}
    small = {} if backend == "serial" else {"engine.num_cpus": 2}
    predict_pool.predict(
        folder, str(pool), str(out), options | small, lambda _, done, __: seen.append((time.perf_counter(), done))
    )
    begun = seen[0] if backend == "serial" else next(entry for entry in seen if entry[1])
    return (seen[-1][1] - begun[1]) / (seen[-1][0] - begun[0])


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
    tables.write("predict-forms", title, "python -m tests.bench predict", header, rows, notes)


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
