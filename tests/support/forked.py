"""Processes that are copies of one that has imported what takes seconds: torch, timm, and the rooms of a run.

A copy is a process of its own: it can be killed, and nobody else sees what it changes. Only the first one waits for
the imports.
"""

import multiprocessing

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "timm",
        "torch.distributed",
        "sklearn.ensemble",
        "pipeline.commands.run",
        "pipeline.commands.pretrain",
        "tests.support.tiny_pretraining",
        "tests.support.dying_run",
    ]
)
