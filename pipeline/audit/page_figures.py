"""The audit's figure: what the label can be told from without reading the lungs, beside the model."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from pipeline.audit.page_data import Row
from pipeline.pages.svg_chart import ACCENT, INK, MUTED, REFERENCE, color, render
from pipeline.pages.wording import decimal, known

# In this order; those of `_READS_THE_SCAN` see the lungs, the others are shortcuts.
PROBES = {
    "run": "this run’s model",
    "model": "whole scan",
    "equalised": "scan, histogram equalised",
    "lungs-masked": "lungs masked out",
    "metadata": "file metadata alone",
    "grey-levels": "grey levels alone",
    "population": "population alone",
}
# In a sentence.
_READS_THE_SCAN = {"run": "this run’s model", "model": "the whole scan", "equalised": "the equalised scan"}
_ROW_INCHES = 0.235


def shortcut_groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The rows that were measured, by finding, each in the order of `PROBES`."""
    place = {probe: i for i, probe in enumerate(PROBES)}
    rows_of: dict[str, list[Row]] = {}
    for row in rows:
        if known(row.get("auroc")):
            rows_of.setdefault(str(row.get("finding") or "all findings"), []).append(row)
    return [
        (name, sorted(group, key=lambda row: place.get(str(row.get("probe")), len(place))))
        for name, group in rows_of.items()
    ]


def shortcuts(rows: Sequence[Row]) -> str | None:
    """AUROC of each probe with its 95 % interval, one block of lines a finding; the dashes are guessing."""
    groups = shortcut_groups(rows)
    if not groups:
        return None

    def draw(axes: Axes) -> None:
        y, ticks, labels, low = 0.0, [], [], 0.45
        for name, group in groups:
            ticks.append(y)
            labels.append(name)
            for row in group:
                y += 1
                low = min(low, *_line(axes, row, y))
                ticks.append(y)
                labels.append(PROBES.get(str(row.get("probe")), str(row.get("probe"))))
            y += 1.35
        axes.axvline(0.5, color=REFERENCE, linewidth=1, linestyle=(0, (3, 2)))
        axes.set(xlim=(max(0.0, low - 0.02), 1.09), ylim=(y - 0.6, -0.7), xlabel="AUROC, with its 95% interval")
        axes.set_yticks(ticks, labels)
        names = {name for name, _ in groups}
        for label in axes.get_yticklabels():
            if label.get_text() in names:
                label.set(weight="bold", color=INK)
        axes.set_xticks([x for x in (0.0, 0.25, 0.5, 0.75, 1.0) if x >= low - 0.02])
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")

    height = 0.55 + _ROW_INCHES * sum(len(group) + 1.35 for _, group in groups)
    return render("shortcuts", (4.6, height), draw)


def _line(axes: Axes, row: Row, y: float) -> tuple[float, ...]:
    """One dot and its interval; returns the ends that the axis must show."""
    reads = row.get("probe") in _READS_THE_SCAN
    tint = ACCENT if reads else color(1)
    ends = row.get("auroc_ci95")
    ends = [end for end in ends if known(end)] if isinstance(ends, list) else []
    if len(ends) == 2:
        axes.plot(ends, [y, y], color=tint, linewidth=2.2, alpha=0.45)
    axes.plot([row["auroc"]], [y], marker="o" if reads else "D", markersize=6 if reads else 5, color=tint)
    axes.text(1.03, y, decimal(row["auroc"], 2), va="center", color=INK if reads else MUTED, clip_on=False)
    return (row["auroc"], *ends)


def warnings_of(rows: Sequence[Row]) -> list[str]:
    """One sentence for each finding where a shortcut does as well as what reads the scan."""
    warnings = []
    for name, group in shortcut_groups(rows):
        reads = [row for row in group if row.get("probe") in _READS_THE_SCAN]
        others = [row for row in group if row.get("probe") not in _READS_THE_SCAN]
        if not reads or not others:
            continue
        model, best = reads[0], max(others, key=lambda row: row["auroc"])
        ends = model.get("auroc_ci95") or []
        floor = ends[0] if ends and known(ends[0]) else model["auroc"]
        if best["auroc"] >= floor:
            probe = PROBES.get(str(best.get("probe")), str(best.get("probe")))
            warnings.append(
                f"{name}: {probe} reaches an AUROC of {decimal(best['auroc'])}, where "
                f"{_READS_THE_SCAN[model['probe']]} reaches {decimal(model['auroc'])}. "
                "Such a score does not show that the lungs were read."
            )
    return warnings
