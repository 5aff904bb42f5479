"""Speed as ratios within one run: our embedding against plain loops, the whole run against embedding alone."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from embeddings import backbones
from pipeline.contracts.options.vectors import BackboneConfig
from tests.bench import tables

NUM_PLAIN = 384  # scans of a plain loop: enough for a rate, short enough to run three passes
PASSES = 3


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/speed.md`."""
    manifest = data / "kermany" / "manifest.csv"
    with manifest.open() as stream:
        paths = [manifest.parent / row["image_path"] for row in csv.DictReader(stream)]
    with tempfile.TemporaryDirectory() as folder:
        onnx = backbones.export_onnx(backbones.resolve(BackboneConfig()), 224, Path(folder))
        plain: dict[str, list[float]] = {"eager torch": [], "channels_last torch": [], "onnxruntime, forward only": []}
        ours: list[float] = []
        for i in range(PASSES):
            plain["eager torch"].append(_torch_rate(paths[:NUM_PLAIN], channels_last=False))
            plain["channels_last torch"].append(_torch_rate(paths[:NUM_PLAIN], channels_last=True))
            plain["onnxruntime, forward only"].append(_onnx_rate(paths[: 4 * NUM_PLAIN], onnx))
            ours.append(_embed_rate(manifest, Path(folder) / f"cache{i}", Path(folder) / f"embed{i}"))
        whole = [_whole(manifest, Path(folder), i) for i in range(PASSES)]
    rows = [
        [f"embed stage / {name}", *_ratios(ours, rates), need]
        for (name, rates), need in zip(plain.items(), ("≥ 6", "≥ 3", "≥ 0.85"), strict=True)
    ]
    rows.append(
        [
            "five-round run / (embedding alone)",
            *_ratios([w["run"] for w in whole], [w["embed"] for w in whole]),
            "≤ 2 and Ray's start",
        ]
    )
    rows.append(["driver's peak memory, GiB", *_three([w["rss"] for w in whole]), "≤ 1.5"])
    rows.append(["run again on finished work, s", *_three([w["again"] for w in whole]), "≤ 10"])
    rates = ", ".join(f"{name} {np.median(found):.0f}" for name, found in [*plain.items(), ("embed stage", ours)])
    notes = (
        f"{PASSES} passes in turn, two threads each. Median scans per second: {rates}. The embed stage decodes, embeds "
        "and writes the whole pool through Ray; the plain loops decode in a DataLoader with two workers and embed "
        f"{NUM_PLAIN} scans; forward only has its batches in memory. `cxr-ssl embed` and `cxr-ssl run` are whole "
        "processes with an empty store, imports and Ray's start included in both."
    )
    header = ("measure", "min", "median", "max", "wanted")
    tables.write("speed", "Speed on the Kermany pool (5,856 scans)", "python -m tests.bench speed", header, rows, notes)


def _three(values: list[float]) -> list[str]:
    return [f"{v:.2f}" for v in (min(values), float(np.median(values)), max(values))]


def _ratios(ours: list[float], theirs: list[float]) -> list[str]:
    return _three([a / b for a, b in zip(ours, theirs, strict=True)])


def _torch_rate(paths: list[Path], *, channels_last: bool) -> float:
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    class Scans(Dataset):  # type: ignore[type-arg,misc]
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, i: int) -> Any:
            return torch.from_numpy(
                np.asarray(Image.open(paths[i]).convert("L").resize((224, 224)), np.float32)[None] / 255
            )

    torch.set_num_threads(2)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module = backbones.build(backbones.resolve(BackboneConfig())).to(memory_format=layout)
    with torch.inference_mode():
        module(torch.zeros(2, 1, 224, 224).to(memory_format=layout))
        start = time.perf_counter()
        for batch in DataLoader(Scans(), batch_size=32, num_workers=2):
            module(batch.to(memory_format=layout))
        return len(paths) / (time.perf_counter() - start)


def _onnx_rate(paths: list[Path], onnx: Path) -> float:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(0).random((32, 1, 224, 224), dtype=np.float32)
    session.run(None, {"scan": batch})
    num = len(paths) // 32
    start = time.perf_counter()
    for _ in range(num):
        session.run(None, {"scan": batch})
    return num * 32 / (time.perf_counter() - start)


def _embed_rate(manifest: Path, cache: Path, out: Path) -> float:
    """Rate of the embed stage of a fresh `cxr-ssl embed`, with an empty store that holds the ONNX file already."""
    backbones.export_onnx(backbones.resolve(BackboneConfig()), 224, cache / "embeddings" / "backbones")
    _command(["embed", str(manifest), "--out", str(out)], cache)
    stages = {s["name"]: s for s in json.loads((out / "stages.json").read_text())["stages"]}
    return float(stages["embed"]["counts"]["scans_per_second"])


def _whole(manifest: Path, folder: Path, i: int) -> dict[str, float]:
    pool = ["--pool", str(manifest), "--rounds", "5", "--budget", "20", "--oracle"]
    embed, _ = _command(["embed", str(manifest), "--out", str(folder / f"e{i}")], folder / f"cache-e{i}")
    run, rss = _command(["run", *pool, "--out", str(folder / f"r{i}")], folder / f"cache-r{i}")
    again, _ = _command(["run", *pool, "--out", str(folder / f"r{i}"), "--resume"], folder / f"cache-r{i}")
    return {"embed": embed, "run": run, "again": again, "rss": rss / 2**30}


def _command(arguments: list[str], cache: Path) -> tuple[float, int]:
    """Seconds and peak resident bytes of the driver process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments, "--quiet"],
        env=os.environ | {"CXR_SSL_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
    )
    peak = max(_watch(process), default=0)
    if process.returncode != 0:
        raise RuntimeError(f"{arguments} ended with {process.returncode}")
    return time.perf_counter() - start, peak


def _watch(process: "subprocess.Popen[bytes]") -> Iterator[int]:
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            yield watched.memory_info().rss
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    process.wait()
