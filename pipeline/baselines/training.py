"""The networks of the bench: how each is trained, and all their fits over the draws, each done once."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from embeddings import activations, backbones
from embeddings.activations import Early
from pipeline import __version__
from pipeline.baselines import networks
from pipeline.baselines.material import Material
from pipeline.baselines.networks import Fit, Plain
from pipeline.baselines.reconstruction import FINDINGS, Draw
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.options.learning import NetworkConfig
from pipeline.contracts.tables import write_text
from pipeline.learn.network import adapter
from pipeline.learn.network.design import Design
from pipeline.runtime import run_dir
from pipeline.runtime.context import StageContext
from pipeline.vectors.matrix import Vectors

# T test scans, C classes

log = logging.getLogger(__name__)
CONVNET, FULL, PARTIAL = "convnet", "full", "partial"
SIZE_PX = {CONVNET: 50, FULL: 128, PARTIAL: 128}
RECIPES = {
    CONVNET: NetworkConfig(epochs=25, lr=2e-3, weight_decay=1e-3, balance="weights", patience=6),
    FULL: NetworkConfig(epochs=2, lr=4e-4, balance="weights", patience=2),
    PARTIAL: NetworkConfig(epochs=3, lr=4e-4, balance="weights", patience=2, last_stages=3, num_views=2),
}


def train_all(scans: Material, draws: Sequence[Draw]) -> dict[str, tuple[list[NDArray[np.float64]], dict[str, Any]]]:
    """Probabilities (T, C) of each draw's test scans, and seconds and epochs, by network.

    Every draw of a network is a task of its own; one that was done before is not done again.
    """
    ctx, root = scans.ctx, cache_folder() / "scans"
    designs = _designs(scans)
    for _, early in designs.values():
        adapter.fill(ctx, early, root, list(zip(scans.sha256, scans.uris, strict=True)))
    jobs = {
        (name, seed): _fit(scans, draw, name, seed, *made, root)
        for seed, draw in enumerate(draws)
        for name, made in designs.items()
    }
    fits = dict(_run(ctx, jobs))
    out = {}
    for name in designs:
        logits, curves, seconds = zip(*(fits[name, seed] for seed in range(len(draws))), strict=True)
        probs = [np.asarray(softmax(np.asarray(logit_TC, np.float64), axis=1)) for logit_TC in logits]
        out[name] = (probs, {"seconds": float(np.mean(seconds)), "num_epochs": [len(curve) for curve in curves]})
    return out


def _designs(scans: Material) -> dict[str, tuple[Plain | Design, Early]]:
    """The networks before they learn, the longest to train first, and what each of them sees."""
    config = scans.ctx.config
    backbone = backbones.resolve(config.backbone)
    num_stages = adapter.count_stages(scans.ctx, backbone)
    head = networks.new_head(Vectors.open(scans.ctx.folder).own_dim, len(FINDINGS))
    out: dict[str, tuple[Plain | Design, Early]] = {}
    for name, num_early in ((FULL, 0), (PARTIAL, num_stages - RECIPES[PARTIAL].last_stages), (CONVNET, 0)):
        early = activations.early_of(backbone, _config(config, name), num_early)
        plain = name == CONVNET
        out[name] = (Plain(len(FINDINGS)) if plain else Design(backbone, num_early, SIZE_PX[name], head), early)
    return out


def _config(config: Config, name: str) -> Config:
    preprocess = config.preprocess.model_copy(update={"size_px": SIZE_PX[name]})
    return config.model_copy(update={"preprocess": preprocess, "network": RECIPES[name]})


def _fit(scans: Material, draw: Draw, name: str, seed: int, design: Any, early: Any, root: Path) -> Fit:
    one_hot_NC = np.eye(len(FINDINGS))[scans.class_N]
    return Fit(
        design,
        early,
        root,
        scans.sha256,
        draw.train,
        one_hot_NC[draw.train],
        (draw.val, one_hot_NC[draw.val]),
        draw.test,
        RECIPES[name],
        seed,
        scans.ctx.config.engine.use_gpu,
    )


def _run(ctx: StageContext, jobs: dict[tuple[str, int], Fit]) -> Iterator[tuple[tuple[str, int], Any]]:
    """Yield (key, (logits, validation curve, seconds)) of all; each is kept in `fits` when it is done."""
    paths = {key: ctx.folder / "fits" / f"{key[0]}-{key[1]}.json" for key in jobs}
    prints = {key: fingerprint(job) for key, job in jobs.items()}
    todo = []
    for key, path in paths.items():
        kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
        if kept.get("fingerprint") == prints[key]:
            yield key, (kept["logit"], kept["val"], kept["seconds"])
        else:
            todo.append(key)
    done = len(jobs) - len(todo)
    ctx.progress("networks", done, len(jobs))
    ctx.engine.expect(num_networks=len(todo))
    for index, (logit_TC, curves, seconds) in ctx.engine.map_shards(networks.fit, [jobs[k] for k in todo], on_gpu=True):
        key = todo[index]
        kept = {"fingerprint": prints[key], "logit": logit_TC.tolist(), "val": curves.val, "seconds": seconds}
        write_text(paths[key], json.dumps(kept))
        done += 1
        ctx.progress("networks", done, len(jobs))
        log.info("%s, draw %d: %d epochs, %.0f s", *key, len(curves.loss), seconds)
        yield key, (logit_TC, curves.val, seconds)


def fingerprint(job: Fit) -> str:
    """What decides the outcome of a fit."""
    arrays = b"".join(a.tobytes() for a in (job.train, job.target_LC, *job.val, job.test))
    return run_dir.fingerprint(
        {
            "version": __version__,
            "scans": hashlib.sha256("".join(job.sha256).encode()).hexdigest(),
            "arrays": hashlib.sha256(arrays).hexdigest(),
            "config": job.config.model_dump(),
            "seed": job.seed,
            "design": type(job.design).__name__,
            "weights": job.early.backbone.key,
            "early": [job.early.num_stages, job.early.size_px, job.early.num_views],
        }
    )
