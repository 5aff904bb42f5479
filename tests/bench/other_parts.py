"""Is what is no chest told from chests, alone or three together, and are chests left in peace?"""

import json
import os
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.audit.checks import not_chest
from pipeline.measures.bootstrap import wilson
from tests.bench import drawn_pools, planted, tables
from tests.bench.drawn_pools import Drawn
from tests.bench.planted_pictures import opened

STORE = tables.RESULTS / "other-parts.json"
NUM_CHOSEN_ON = 12  # draws that the rule was chosen on
NUM_CROPS = 8  # of each picture
PARTS = {"a hip": "wg04/RG2_UNC", "a leg": "wg04/RG3_UNC", "a sheet of CT slices": "wg04/SC1_UNC"}
CHESTS = {
    "the chest of WG-04": "wg04/RG1_J2KI",
    "a chest of a JPEG file": "txv/16747_3_1.jpg",
    "a chest of NIH": "txv/00027426_000.png",
}
TOGETHER = "all three together"
HEADER = ("pool", "picture among chests", "told before", "told", "on the other draws")


def main(_data: Path, options: Namespace) -> None:
    """Write `results/other-parts.md`."""
    results: dict[str, list[dict[str, Any]]] = json.loads(STORE.read_text("utf-8")) if STORE.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        crops = _crops(Path(folder))
        for base in (options.pool,) if options.pool else drawn_pools.BASES:
            pools = drawn_pools.draws(base, options.seeds, Path(folder))
            results[base] = [_of_draw(drawn, crops, seed) for seed, drawn in enumerate(pools)]
            STORE.write_text(json.dumps(results, indent=1, ensure_ascii=False, sort_keys=True), "utf-8")
    _write(results, options.seeds)


def _crops(folder: Path) -> dict[str, Drawn]:
    """Pictures of other parts, and of chests of elsewhere, each cropped in several ways."""
    source, rng, rows = Path(os.environ["CXR_SSL_DATA"]) / "dicom", np.random.default_rng(0), []
    for name, place in (PARTS | CHESTS).items():
        image = opened({"image_path": str(source / place)})
        for number in range(NUM_CROPS):
            left, top = (int(rng.integers(0, side // 8)) for side in image.size)
            path = folder / f"{Path(place).stem}-{number}.png"
            image.crop((left, top, image.width - left, image.height - top)).resize((320, 320)).save(path)
            rows.append({"image_path": str(path), "label": name, "patient_id": f"{Path(place).stem}{number}"})
    every = drawn_pools.read(rows, folder)
    return {name: every.take(np.flatnonzero(every.label == name)) for name in PARTS | CHESTS}


def _of_draw(drawn: Drawn, crops: dict[str, Drawn], seed: int) -> dict[str, Any]:
    """Which of the pool's own scans are called unlike the others, and which pictures that were put among them."""
    before, now = _unlike(drawn, 0)
    result: dict[str, Any] = {
        "clean": {
            key: sorted(Path(uri).name for uri in drawn.uri[rows]) for key, rows in (("before", before), ("now", now))
        }
    }
    rng = np.random.default_rng(seed)
    chosen = {name: of_name.take(rng.integers(0, len(of_name.uri), 1)) for name, of_name in crops.items()}
    hip, leg, sheet = (chosen[name] for name in PARTS)
    for name, others in {**chosen, TOGETHER: hip.with_others(leg).with_others(sheet)}.items():
        before, now = _unlike(drawn.with_others(others), len(drawn.uri))
        result[name] = {"before": len(before), "now": len(now), "of": len(others.uri)}
    return result


def _unlike(pool: Drawn, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the scans from a place on, those that are called no upright chest without the embedding, and with it.

    Mirrored scans are left aside: that is told of several people alone, and has nothing to do with other parts.
    """
    rows = np.arange(len(pool.uri))
    needed = not_chest.like_needed(pool.own, rows, rows, np.random.default_rng(0))
    both = []
    for like_needed in (None, needed):
        reason = not_chest.reasons(pool.fact, pool.thumbnail, pool.is_lateral, like_needed)
        is_told = np.array([text not in (None, not_chest.MIRROR) for text in reason])
        both.append(rows[is_told & (rows >= start)])
    return both[0], both[1]


def _write(results: dict[str, list[dict[str, Any]]], seeds: int) -> None:
    rows: list[tuple[str, ...]] = []
    added: list[bool] = []
    for base, draws in results.items():
        rows += [
            (base, name, _part(draws, name, "before"), _part(draws, name, "now"), _confirmed(draws, name))
            for name in (*PARTS, TOGETHER, *CHESTS)
        ]
        counts = [f"{sum(bool(draw['clean'][key]) for draw in draws)} of {len(draws)}" for key in ("before", "now")]
        rows.append((base, "none: pools with a scan of their own told", *counts, "–"))
        added += [bool(set(draw["clean"]["now"]) - set(draw["clean"]["before"])) for draw in draws]
    total = sum(len(draws) for draws in results.values())
    low, high = wilson(sum(added) / total, total, 1.96)
    accused = sorted({name for draws in results.values() for draw in draws for name in draw["clean"]["now"]})
    tables.write(
        "other-parts",
        "Other parts of the body among chests",
        f"python -m tests.bench other_parts --seeds {seeds}",
        HEADER,
        rows,
        f"A picture, cropped by chance, among {planted.NUM_REAL} scans drawn from {drawn_pools.NUM_READ:,} of Kermany "
        f"or from the NIH part of covid3, or among the scans of {planted.NUM_PATIENTS} phantom patients, at "
        f"{planted.SIDE_PX} px; draws of a real set share scans. *Before*: by the thumbnail alone. The rule was chosen "
        f"on the first {NUM_CHOSEN_ON} phantom pools and on as many draws of the real sets, *the other draws* were not "
        f"looked at before. The three pictures are all "
        f"there were. By the embedding {sum(added)} of {total} clean pools (95 %: {low:.1%} to {high:.1%}) have a "
        f"chest accused that was not before. Accused in clean pools at all: {', '.join(accused) or 'none'}. A chest of "
        "elsewhere should not be told.",
    )


def _part(draws: list[dict[str, Any]], name: str, key: str) -> str:
    return f"{sum(draw[name][key] for draw in draws)} of {sum(draw[name]['of'] for draw in draws)}"


def _confirmed(draws: list[dict[str, Any]], name: str) -> str:
    return _part(draws[NUM_CHOSEN_ON:], name, "now")
