"""Numbers as people read them: one way to write a count, a share, an interval; a dash for what is missing."""

import math
import re
from collections.abc import Iterable, Mapping

MISSING = "–"
GREW = "the holdout grew"  # in a chart, where a pool joined
NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "f1": "F1",
    "ece": "calibration error",
    "brier": "Brier score",
    "age_years": "age in years",
    "width_px": "width in pixels",
    "height_px": "height in pixels",
}

QUEUE_KINDS = {  # why a queue asked for a scan: of one scan; behind a number
    "representative": ("typical", "typical"),
    "uniform": ("random", "at random"),
    "wished": ("wished for", "wished for by people"),
    "release-check": ("check of a release", "to check the release"),
    "recheck": ("read again", "to check pseudo-labels"),
    "report-check": ("check of reports", "to check what reports say"),
    "dispute": ("readers disagreed", "in dispute"),
    "doubt": ("label in doubt", "in doubt"),
    "holdout": ("holdout", "of the holdout"),
}


def known(value: object) -> bool:
    """Whether `value` is a number that was measured: neither None nor NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count(value: float | None) -> str:
    """5232 -> `5,232`."""
    return f"{value:,.0f}" if value is not None and known(value) else MISSING


def decimal(value: float | None, digits: int = 3) -> str:
    """0.9412 -> `0.941`, with a minus sign, not a hyphen, before what is below zero."""
    return f"{value:.{digits}f}".replace("-", "−") if value is not None and known(value) else MISSING


def percent(value: float | None, digits: int = 1) -> str:
    """0.8612 -> `86.1%`."""
    return f"{100 * value:.{digits}f}%" if value is not None and known(value) else MISSING


def floor_percent(value: float | None, digits: int = 1) -> str:
    """A lower bound, never rounded up: 0.96996 -> `96.9%`."""
    if value is None or not known(value):
        return MISSING
    scale = 10**digits
    return f"{math.floor(100 * value * scale + 1e-9) / scale:.{digits}f}%"


def of_100(value: float | None) -> str:
    """0.8612 -> `86`."""
    return f"{100 * value:.0f}" if value is not None and known(value) else MISSING


def interval(pair: list[float] | None, *, as_percent: bool = False, digits: int = 3) -> str:
    """[0.921, 0.958] -> `0.921–0.958`; with a negative end `−0.050 to 0.958`."""
    if not pair or len(pair) != 2 or not all(known(end) for end in pair):
        return MISSING
    if as_percent:
        return f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f}%"
    link = " to " if min(pair) < 0 else "–"
    return f"{pair[0]:.{digits}f}{link}{pair[1]:.{digits}f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """0.00004 -> `< 0.001`."""
    if value is None or not known(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def signed(value: float | None, digits: int = 3) -> str:
    """0.032 -> `+0.032`; with a true minus."""
    if value is None or not known(value):
        return MISSING
    return f"{value:+.{digits}f}".replace("-", "−")


def signed_interval(pair: list[float] | None, digits: int = 3) -> str:
    """[-0.15, 0.02] -> `−0.150 to +0.020`."""
    if not pair or len(pair) != 2 or not all(known(end) for end in pair):
        return MISSING
    return f"{signed(pair[0], digits)} to {signed(pair[1], digits)}"


def moment(text: object) -> str:
    """`2025-01-01T05:06:07+00:00` -> `2025-01-01 05:06:07 UTC`; anything else as it is."""
    shown = str(text or "")
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:\+00:00|Z)$", r"\1 \2 UTC", shown)


def duration(seconds: float | None) -> str:
    """75.2 -> `1 min 15 s`."""
    if seconds is None or not known(seconds):
        return MISSING
    if seconds < 0.05:
        return "< 0.1 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def short(image_id: str) -> str:
    """The first 8 of an image id's 16 hex digits: enough to tell the scans of a page apart."""
    return image_id[:8]


def plural(number: float | None, singular: str, many: str | None = None) -> str:
    """`1 scan`, `2 scans`."""
    return f"{count(number)} {singular if number == 1 else many or singular + 's'}"


def words(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    rows = list(items)
    return rows[0] if len(rows) == 1 else f"{', '.join(rows[:-1])} and {rows[-1]}" if rows else ""


def queue_kind(kind: str) -> str:
    """Why a queue asked for a scan, as people say it: `representative` -> `typical`."""
    return QUEUE_KINDS[kind][0] if kind in QUEUE_KINDS else kind


def by_kind(kinds: Mapping[str, int]) -> str:
    """{"uniform": 4, "representative": 16} -> `16 typical, 4 at random`; a kind without a scan is left out."""
    known_first = [*QUEUE_KINDS, *(kind for kind in kinds if kind not in QUEUE_KINDS)]
    return ", ".join(f"{count(kinds[k])} {QUEUE_KINDS.get(k, (k, k))[1]}" for k in known_first if kinds.get(k))


def named(key: str) -> str:
    """What people call a metric or a column: `AUROC`, `balanced accuracy`, `age in years`."""
    return NAMES.get(key, key.replace("_", " "))


def in_order(name: str) -> tuple[int, int, str]:
    """Sort key for names of slices: numbers by size, `2-17` before `18-39`, then words by the alphabet."""
    head = re.match(r"\d+", name)
    return (0, int(head[0]), name) if head else (1, 0, name)


def place(uri: object) -> str:
    """The end of a path, for people: where on a disk it lies is nobody's business; other URIs as they are."""
    text = str(uri)
    scheme, colon, path = text.partition(":")
    if not colon or "/" in scheme:
        scheme, path = "", text
    elif scheme == "file":
        scheme = ""
    elif path.startswith("//") or "/" not in path:
        return text  # `s3://bucket/folder`, `phantom:`
    end = "/".join(path.rstrip("/").split("/")[-2:])
    return f"{scheme}:{end}" if scheme else end
