"""A tiny network, a few scans and a training that takes moments."""

import hashlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embeddings import backbones
from embeddings.pretrain import loop, pixel_matrix
from embeddings.pretrain.task import Task, Worker
from pipeline.contracts.options.vectors import AugmentConfig, BackboneConfig, PretrainConfig

NAME = "timm:test_resnet.r160_in1k"
S = 32


def shas(num):
    return tuple(hashlib.sha256(str(i).encode()).hexdigest() for i in range(num))


def fill(cache, num, seed=0):
    """Smooth scans: 8 x 8 random blocks, enlarged."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (num, 1, 1, 8, 8), dtype=np.uint8)
    cache.write(shas(num), blocks.repeat(S // 8, axis=3).repeat(S // 8, axis=4))


def options(**changed):
    given = {"epochs": 2, "size_px": S, "batch_size": 8, "hidden_dim": 32, "projection_dim": 16}
    return PretrainConfig(**(given | {"augment": AugmentConfig()} | changed))


def task(folder, num=24, seed=0, look_at=(), probe=None, backbone=None, **changed):
    """A training in `folder`, which holds its scans as well."""
    cache = pixel_matrix.open_cache(folder.parent / "pixels", S)
    if not cache.known():
        fill(cache, max(num, 24))
    backbone = backbone or backbones.untrained(BackboneConfig(name=NAME))
    folder.mkdir(exist_ok=True)
    return Task(cache, shas(num), backbone, options(**changed), seed, folder, look_at=look_at, probe=probe)


@dataclass(frozen=True)
class DiesOnce:
    """A probe whose process is killed at its third call: after the second epoch, before that is on disk."""

    marks: Path

    def __call__(self, emb_ND):
        calls = len(list(self.marks.iterdir()))
        (self.marks / str(calls)).touch()
        if calls == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return {}


def together(rank, size, folder, meeting, given):
    """One of several workers, as Ray Train would start it; run in a process of its own."""
    import torch
    from torch import distributed

    def mean_(tensor):
        distributed.all_reduce(tensor)
        return tensor.div_(size)

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    loop.train(task(folder, num_workers=size, **given), Worker(rank, size, mean_=mean_))
    distributed.destroy_process_group()
