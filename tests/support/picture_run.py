"""A small run over real pictures, up to its rounds: two textures under noise, a tiny backbone, no Ray, seconds."""

import os
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from pipeline import stages
from pipeline.contracts import config_file
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.support import tiny_backbone

SIZE_PX = 32
CLASSES = ("normal", "sick")
BEFORE_ROUNDS = ("manifest", "duplicates", "splits", "embed", "clusters")
QUICK = {
    "preprocess.size_px": SIZE_PX,
    "evaluate.num_bootstrap": 20,
    "duplicates.changed": False,
    "engine.backend": "serial",
    "oracle": True,
    "calibrate.num_folds": 2,
    "train.adapt": "partial",
    "embed.features": "pooled",
    "network.min_steps": 1,
    "network.num_views": 2,
    "network.batch_size": 16,
    "rounds.num": 1,
    "queue.budget": 24,
    "splits.holdout_fraction": 0.3,
    "pseudo.rollback_accuracy": 0.9,
    "pseudo.rollback_brier": 0.9,
    "pseudo.rollback_auroc": 0.3,  # a network of random weights is worse than its head by chance
}


def scan(i, sick):
    """Wide or narrow stripes under noise, at a random phase and brightness."""
    rng = np.random.default_rng(i)
    wave = 40 * np.sin(2 * np.pi * (np.arange(SIZE_PX) / (4 if sick else 16) + rng.random()))
    picture = 128 + rng.normal(0, 25, (SIZE_PX, SIZE_PX)) + rng.normal(0, 10) + wave
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def make_pool(folder: Path, num=90, first=0, labelled=None):
    """Two scans a patient, one of each class; `labelled(i)` says whether the pool tells."""
    folder.mkdir(parents=True)
    lines = ["image_path,label,patient_id"]
    for i in range(first, first + num):
        scan(i, sick=i % 2).save(folder / f"s{i:03d}.png")
        told = labelled is None or labelled(i)
        lines.append(f"s{i:03d}.png,{CLASSES[i % 2] if told else ''},p{i // 2}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "manifest.csv"


def picture_run(folder: Path, *, pool=None, engine=None, **options) -> StageContext:
    """Run the stages before the rounds in `folder/run`; options with `__` for the dot. Its cache is `folder/cache`."""
    given = {key.replace("__", "."): value for key, value in options.items()}
    uri = str(pool or make_pool(folder / "pool"))
    weights = tiny_backbone.weights(folder / "weights")
    stores = {"embed.store": str(folder / "cache")}
    config = config_file.load(None, {"pool.uri": uri, **weights, **QUICK, **stores, **given})
    (folder / "run").mkdir(parents=True)
    ctx = StageContext(config, folder / "run", engine or SerialEngine())
    with mock.patch.dict(os.environ, {"CXR_SSL_CACHE": str(folder / "cache")}):
        stages.run_stages(ctx, BEFORE_ROUNDS)
    return ctx
