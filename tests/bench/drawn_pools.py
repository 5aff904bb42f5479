"""Clean pools of some hundred scans, with what the audit knows of them: drawn from real sets, or phantoms anew.

Legend: K scans of a pool.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import stages
from pipeline.audit import picture_facts
from pipeline.audit.audited_pool import open_subject
from pipeline.contracts import config_file
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.bench import planted, pools
from tests.bench.planted_rows import Row

NUM_READ = 2_100  # scans of a real set that pools are drawn from
BASES = ("phantoms", "kermany", "nih")


@dataclass(frozen=True)
class Drawn:
    """Scans of a pool, (K, ...) each: features, the backbone's own embedding, labels, patients, pictures."""

    features: NDArray[np.float32]
    own: NDArray[np.float32]
    label: NDArray[np.str_]
    group: NDArray[np.str_]
    fact: NDArray[np.float32]
    thumbnail: NDArray[np.float32]
    is_lateral: NDArray[np.bool_]
    uri: NDArray[np.str_]

    def take(self, rows: NDArray[np.int64]) -> "Drawn":
        """Some of the scans."""
        return Drawn(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def with_others(self, others: "Drawn") -> "Drawn":
        """These scans and others behind them."""
        return Drawn(**{f.name: np.concatenate([getattr(self, f.name), getattr(others, f.name)]) for f in fields(self)})


def draws(base: str, seeds: int, folder: Path) -> Iterator[Drawn]:
    """Clean pools of a base, one a seed."""
    if base == "phantoms":
        for seed in range(seeds):
            place = folder / f"phantoms-{seed}"
            place.mkdir()
            yield read(planted.phantoms(place, seed), place)
        return
    rows = pools.rows("kermany" if base == "kermany" else "covid3")
    rows = [row for row in rows if base == "kermany" or row["source"] == pools.NIH]
    chosen = np.sort(np.random.default_rng(0).choice(len(rows), min(NUM_READ, len(rows)), replace=False))
    place = folder / base
    place.mkdir()
    of_set = read([{k: v for k, v in rows[i].items() if k != "official_split"} for i in chosen], place)
    for seed in range(seeds):
        order = np.random.default_rng(10_000 + seed).permutation(len(chosen))
        yield of_set.take(np.sort(order[: planted.NUM_REAL]))


def read(rows: list[Row], folder: Path) -> Drawn:
    """What the audit would know of a manifest of these rows."""
    path = folder / "drawn.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)), restval="")
        table.writeheader()
        table.writerows(rows)
    settings: dict[str, Any] = {"pool.uri": str(path), "engine.backend": "serial"} | planted.SETTINGS
    run = folder / "run"
    run.mkdir()
    ctx = StageContext(config_file.load(None, settings), run, SerialEngine())
    stages.run_stages(ctx, stages.READ_WITHOUT_SPLIT)
    subject = open_subject(ctx)
    known = np.flatnonzero(subject.has_emb_N)
    fact, thumbnail = picture_facts.measure(ctx, subject.scans)
    return Drawn(
        features=subject.features(known),
        own=subject.embeddings(known),
        label=subject.label_N[known].astype(str),
        group=subject.group_N[known].astype(str),
        fact=fact[known],
        thumbnail=thumbnail[known],
        is_lateral=subject.view_N[known] == "LL",
        uri=subject.uri_N[known].astype(str),
    )
