"""The map of the pool: where every scan lies, as compact SVG path data, and what to say of each dot."""

import math
from typing import Any

from pipeline.pages.svg_chart import NUM_COLORS
from pipeline.pages.wording import short
from pipeline.report.gather import RunData, Scan

MAP_SIZE = (1000, 600)  # units of the viewBox
MAP_EDGE = 44
TAIL = 0.04  # of the map's side; stays inside the edge


def draw(data: RunData) -> dict[str, Any] | None:
    """Dots of the map as SVG path data: a zero-length line with round ends is a dot, in a few bytes.

    (One element a dot, as matplotlib writes them, would be megabytes.)
    """
    placed = [scan for scan in data.points if math.isfinite(scan.x) and math.isfinite(scan.y)]
    if not placed:
        return None
    x, y = _scale([s.x for s in placed], MAP_SIZE[0]), _scale([-s.y for s in placed], MAP_SIZE[1])
    where = {scan.image_id: (x[i], y[i]) for i, scan in enumerate(placed)}
    by_class: dict[int, list[Scan]] = {}
    by_cluster: dict[int, list[Scan]] = {}
    for scan in placed:
        known = data.findings.index(scan.predicted) if scan.predicted in data.findings else -1
        by_class.setdefault(known, []).append(scan)
        by_cluster.setdefault((scan.cluster or 0) % NUM_COLORS, []).append(scan)
    return {
        "size": MAP_SIZE,
        "num_points": len(placed),
        "num_clusters": len({scan.cluster for scan in placed}),
        "has_classes": any(i >= 0 for i in by_class),
        "by_class": {i: _dots(scans, where) for i, scans in sorted(by_class.items())},
        "by_cluster": {i: _dots(scans, where) for i, scans in sorted(by_cluster.items())},
        "queued": _dots([scan for scan in placed if scan.round is not None], where),
        "mistakes": _dots([scan for scan in placed if scan.is_mistake], where, "m-6-6l12 12m0-12l-12 12"),
        "points": [_point(scan, where, data.findings) for scan in placed],
    }


def _scale(values: list[float], size: int) -> list[int]:
    """Fit into the map; the outermost 0.4% is squeezed into its margin, so that no outlier flattens the rest."""
    ordered = sorted(values)
    cut = len(ordered) // 500
    low, high = ordered[cut], ordered[-1 - cut]
    span = (high - low) or 1.0
    return [round(MAP_EDGE + (size - 2 * MAP_EDGE) * _squeezed((v - low) / span)) for v in values]


def _squeezed(share: float) -> float:
    """0..1 as it is; beyond, the excess bent smoothly towards `TAIL`."""
    inside = min(max(share, 0.0), 1.0)
    return inside + TAIL * math.tanh((share - inside) / TAIL)


def _dots(scans: list[Scan], where: dict[str, tuple[int, int]], mark: str = "h0") -> str:
    return "".join(f"M{where[s.image_id][0]} {where[s.image_id][1]}{mark}" for s in scans)


def _point(scan: Scan, where: dict[str, tuple[int, int]], findings: tuple[str, ...]) -> list[Any]:
    """x, y, id, predicted, percent, cluster, truth, round, answer: what the page's script shows of a dot."""
    predicted = findings.index(scan.predicted) if scan.predicted in findings else -1
    truth = findings.index(scan.truth) if scan.truth in findings else -1
    sure = None if scan.probability is None or math.isnan(scan.probability) else round(100 * scan.probability)
    tail: list[Any] = [scan.round, scan.answer] if scan.round is not None or scan.answer is not None else []
    return [*where[scan.image_id], short(scan.image_id), predicted, sure, scan.cluster, truth, *tail]
