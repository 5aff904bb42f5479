"""What every stage is given: its configuration, its folder, its randomness, where to run and how to report."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.contracts.config import Config
from pipeline.runtime import run_files
from pipeline.runtime.engine import Engine


def _quiet(stage: str, done: int, total: int) -> None:
    pass


def _unheard(what: str, num: int) -> None:
    pass


def _unchecked(labels: Sequence[str | None]) -> None:
    pass


@dataclass(frozen=True)
class StageContext:
    """What a stage works with: options, folder, engine, progress; its inputs and outputs are tables in `folder`.

    Attributes:
        config: The resolved configuration.
        folder: The run directory.
        engine: Where shards of work run.
        progress: Called with (what, done, total) as work goes on.
        failed: Called with (what, num): so many scans of this piece of work cannot be used, so far.
        listed: Called with the labels that a pool's scans have once they are listed, before one is opened; may refuse.
        whole: The run, where this is one finding's part of it: its queue, its answers, its pool; None for the run.
    """

    config: Config
    folder: Path
    engine: Engine
    progress: Callable[[str, int, int], None] = _quiet
    whole: "StageContext | None" = None
    failed: Callable[[str, int], None] = _unheard
    listed: Callable[[Sequence[str | None]], None] = _unchecked

    def rng(self, stage: str, round_index: int = 0) -> np.random.Generator:
        """A generator of its own for each (seed, stage, round): no stage shifts another's numbers."""
        digest = hashlib.sha256(f"{self.config.seed}/{stage}/{round_index}".encode()).digest()
        return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))

    def round_folder(self, round_index: int) -> Path:
        """`rounds/RR` of the run."""
        return run_files.round_folder(self.folder, round_index)
