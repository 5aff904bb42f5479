"""`index.html` of a folder of batches: the latest one, and all before it; one file that needs nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from pipeline.monitor import page_figures, picture_facts
from pipeline.monitor.observation import NUMBERS
from pipeline.monitor.sample import Sample
from pipeline.monitor.scans import Batch
from pipeline.monitor.streams import METADATA, PICTURES, PREDICTIONS
from pipeline.pages.template_env import environment
from pipeline.pages.thumbnails import MAX_PIXELS, thumbnails
from pipeline.pages.wording import named
from pipeline.pool.burned_in.scans import is_seen_in

TEMPLATES = Path(__file__).parent / "templates"
MAX_DRAWN = 6  # numbers whose histograms are shown
NUM_FARTHEST = 12
SIDE_PX = 128
LINES_SHOWN = 40
TONES = {"steady": "valid", "watch": "caution", "unknown": "caution", "retrain": "invalid"}


def html(content: dict[str, Any], lines: list[dict[str, Any]], reference: Sample, batch: Batch) -> str:
    """The page as text.

    Args:
        content: Of `monitor.json`.
        lines: Of the history, the batch's own last.
        reference: For histograms.
        batch: The same, and the pictures of the scans farthest away.
    """
    charts = [
        {"title": named(name), "svg": Markup(page_figures.distribution(f"d{place}", named(name), *values))}
        for place, (name, values) in enumerate(_drawn(content, reference, batch.sample))
    ]
    shares = {name: page_figures.shares(methods) for name, methods in content["prevalence"].items()}
    level = max((v["p_holm"] for v in _variables(content) if v["moved"]), default=0.05)
    farthest, pictures, kept_back = _farthest(batch)
    return (
        environment(TEMPLATES)
        .get_template("monitor.html.j2")
        .render(
            content=content,
            tone=TONES[content["verdict"]],
            streams=Markup(page_figures.streams(content, max(level, 0.05))),
            history=Markup(page_figures.history(lines)),
            lines=list(enumerate(lines, 1))[-LINES_SHOWN:][::-1],
            num_lines=len(lines),
            charts=charts,
            shares={name: None if svg is None else Markup(svg) for name, svg in shares.items()},
            farthest=farthest,
            pictures=pictures,
            kept_back=kept_back,
        )
    )


def _variables(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [variable for of in content["streams"].values() for variable in of["variables"]]


def _drawn(
    content: dict[str, Any], reference: Sample, batch: Sample
) -> list[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Numbers with a name of their own, those that moved most first."""
    known = {fact: fact for fact in (*picture_facts.FACTS, *NUMBERS)}
    rows = []
    for stream in (PICTURES, METADATA, PREDICTIONS):
        for variable in content["streams"].get(stream, {"variables": []})["variables"]:
            name = variable["variable"]
            column = known.get(name) or (
                f"prob_{name.removeprefix('probability of ')}" if name.startswith("probability of ") else None
            )
            if column is not None and variable["test"] == "KS":
                rows.append((variable["p_holm"], -abs(variable["effect"] or 0.0), name, column))
    rows.sort()
    return [(name, (reference.numbers(column), batch.numbers(column))) for _, _, name, column in rows[:MAX_DRAWN]]


def _farthest(batch: Batch) -> tuple[list[dict[str, Any]], dict[str, str], set[str]]:
    """The scans that lie farthest outside, their pictures, and those with text in them, which are not shown."""
    score_N = np.nan_to_num(batch.sample.numbers("outside_score"), nan=-1.0)
    rows = [int(row) for row in np.argsort(-score_N, kind="stable")[:NUM_FARTHEST] if score_N[row] > 1.0]
    ids = batch.sample.table["image_id"].to_pylist()
    shown = [{"image_id": ids[row], "score": float(score_N[row])} for row in rows]
    uris = {ids[row]: batch.uris[row] for row in rows}
    kept_back = {image_id for image_id, uri in uris.items() if is_seen_in(uri, MAX_PIXELS)}
    return shown, thumbnails({i: uri for i, uri in uris.items() if i not in kept_back}, side_px=SIDE_PX), kept_back
