"""Follows a training in another process through the files it leaves, and tells the user."""

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from embeddings.pretrain.loop import HISTORY, PROGRESS
from pipeline.vectors.pretrain_probe import NAMES

log = logging.getLogger(__name__)
EVERY_SECONDS = 1.0


class Watch:
    """While it is open, progress is shown and every finished epoch has its line.

    Args:
        folder: Of the training.
        progress: Called with (what, done, total), in scans.
        epochs: Of the training.
    """

    def __init__(self, folder: Path, progress: Callable[[str, int, int], None], epochs: int) -> None:
        self._folder, self._progress, self._epochs = folder, progress, epochs
        self._said = len(self._records())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _follow(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        progress = self._json(PROGRESS)
        if progress:
            self._progress("pretrain", progress["done"], progress["total"])
        records = self._records()
        for record in records[self._said :]:
            log.info("%s", line(record, self._epochs))
            if record.get("collapse"):
                log.warning("epoch %d: %s", record["epoch"], record["collapse"])
        self._said = max(self._said, len(records))

    def _records(self) -> list[dict[str, Any]]:
        path = self._folder / HISTORY
        return [json.loads(text) for text in path.read_text("utf-8").splitlines()] if path.exists() else []

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self._folder / name).read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return content


def line(record: dict[str, Any], epochs: int) -> str:
    """One epoch in one line."""
    parts = [f"pretrain: epoch {record['epoch']} of {epochs}" if record["epoch"] else "pretrain: before training"]
    if "loss" in record:
        parts.append(f"loss {record['loss']:.4f}")
    if "spread" in record:
        parts.append(f"spread {record['spread']:.2f}, rank {record['rank']:.0f}")
    shown = dict(zip(NAMES, ("15-NN AUROC", "linear probe"), strict=True))
    parts += [f"{shown[name]} {record[name]:.3f}" for name in NAMES if name in record]
    if "loss" in record:
        parts.append(f"{record['scans_per_second']:.0f} scans/s, about {max(record['seconds_left'], 0)} s left")
    return ", ".join(parts)
