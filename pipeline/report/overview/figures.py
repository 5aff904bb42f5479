"""Figures of the overview: the findings side by side, and their mean over the rounds."""

from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from pipeline.measures.holdout_record import on_one_holdout
from pipeline.pages.svg_chart import ACCENT, INK, MUTED, REFERENCE, WIDE, broken_line, render
from pipeline.pages.wording import GREW, known
from pipeline.report.gather import Row
from pipeline.report.overview.data import Overview, Part, own_scores

_INCHES_A_FINDING = 0.27
_NAME_LENGTH = 24  # letters of a finding's name; a longer one would push the dots off the figure
GUESSING = 0.5


def dots(overview: Overview) -> str | None:
    """AUROC of each finding with its interval, the weakest on top; hollow where too few scans say so."""
    parts = overview.scored
    if not parts:
        return None

    def draw(axes: Axes) -> None:
        axes.axvline(GUESSING, color=REFERENCE, linewidth=1, linestyle=(0, (3, 2)))
        if known(overview.scores.get("auroc")) and len(parts) > 1:
            axes.axvline(overview.scores["auroc"], color=INK, linewidth=0.8)
        for place, part in enumerate(parts):
            ends = part.scores.get("auroc_ci95") or []
            if len(ends) == 2 and all(known(end) for end in ends):
                axes.plot(ends, [place, place], color=ACCENT, linewidth=2.2, alpha=0.45)
            fill = "none" if part.is_thin else ACCENT
            axes.plot(
                part.scores["auroc"], place, color=ACCENT, marker="o", markersize=6, linestyle="", markerfacecolor=fill
            )
        axes.set(ylim=(len(parts) - 0.4, -0.6), xlabel="AUROC on the holdout")
        axes.set_xlim(min(GUESSING, *_lowest(parts)) - 0.02, 1.01)
        axes.set_yticks(range(len(parts)), [_short(part.finding) for part in parts])
        axes.grid(visible=False, axis="y")

    return render("dots", (WIDE[0], 0.75 + _INCHES_A_FINDING * len(parts)), draw)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1].rstrip()}…"


def _lowest(parts: list[Part]) -> list[float]:
    ends = [(part.scores.get("auroc_ci95") or [part.auroc])[0] for part in parts]
    return [*(part.auroc for part in parts if part.auroc is not None), *(end for end in ends if known(end))]


def mean_curve(overview: Overview) -> str | None:
    """The mean AUROC over the scans read, each finding as a thin line, and the mean of scans drawn at random."""
    scored = [row for row in overview.rounds if known((row.get("holdout") or {}).get("auroc"))]
    if not scored:
        return None
    pieces = on_one_holdout(scored)
    random = [row for row in random_means(overview) if row["is_same"]]

    def draw(axes: Axes) -> None:
        for part in overview.parts if len(overview.parts) > 1 else ():
            for rows in pieces:
                course = [(row["num_expert"], _auroc(row, part.finding)) for row in rows]
                _line(axes, course, color=MUTED, linewidth=0.9, alpha=0.55)
        if random:
            look: dict[str, Any] = {"color": REFERENCE, "linestyle": (0, (3, 2)), "marker": "o", "markersize": 3}
            _line(axes, [(row["num_expert"], row["auroc"]) for row in random], label="random choice, mean", **look)
        mean = [[(row["num_expert"], row["holdout"]["auroc"], None) for row in rows] for rows in pieces]
        broken_line(axes, mean, label="this run, mean", gap_label=GREW, color=ACCENT, markersize=4.5)
        axes.set(xlabel="scans read by experts", ylabel="AUROC on the holdout")
        axes.set_xticks(sorted({row["num_expert"] for row in scored}))
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.01))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="lower right", reverse=True)

    return render("curve-mean", WIDE, draw)


def _line(axes: Axes, points: list[tuple[int, Any]], **look: Any) -> None:
    there = [(x, y) for x, y in points if known(y)]
    if there:
        axes.plot(*zip(*there, strict=True), **look)


def random_means(overview: Overview) -> list[Row]:
    """What scans drawn at random gave, round by round, over the findings that both they and this run scored.

    Returns:
        {"round","num_expert","auroc": their mean,"ours": this run's over the same findings,"num_findings","is_same":
        whether these are all that this run scored; else a mean of all would compare findings, not choices of scans}.
    """
    random: dict[str, dict[int, Any]] = {
        part.finding: {row["round"]: (row.get("holdout") or {}).get("auroc") for row in part.reference}
        for part in overview.parts
    }
    rows = []
    for row in overview.rounds:
        own = {part.finding: v for part in overview.parts if known(v := _auroc(row, part.finding))}
        drawn = {finding: course.get(row["round"]) for finding, course in random.items() if finding in own}
        at_random = {finding: float(value) for finding, value in drawn.items() if value is not None and known(value)}
        if at_random:
            means = {"auroc": fmean(at_random.values()), "ours": fmean(own[finding] for finding in at_random)}
            about = {"num_findings": len(at_random), "is_same": len(at_random) == len(own)}
            rows.append({"round": row["round"], "num_expert": row["num_expert"]} | means | about)
    return rows


def _auroc(row: Row, finding: str) -> Any:
    return own_scores((row.get("findings") or {}).get(finding) or {}, finding).get("auroc")
