"""The jinja2 environment of the report: autoescape on, and the number formats as filters."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.pages import wording


def ticked(text: object) -> Markup:
    """Text in which words between backticks are code."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # a lone backtick means nothing
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def breakable(text: object) -> Markup:
    """A path or a name that may go on in a new line behind its signs, and not in the middle of a word."""
    return Markup("<wbr>").join(re.split(r"(?<=[/\\_.:-])(?=\w)", str(text)))


def slices_in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of slices: what is sliced by in the order it comes, its slices as `wording.in_order` says."""
    listed = list(rows)
    place = {by: number for number, by in enumerate(dict.fromkeys(row.get("by") for row in listed))}
    return sorted(listed, key=lambda row: (place[row.get("by")], wording.in_order(str(row.get("slice") or ""))))


@cache
def environment(*folders: Path) -> Environment:
    """Templates of some rooms' folders and of this one; whatever a file or finding is called, it is escaped."""
    env = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "count",
        "decimal",
        "percent",
        "floor_percent",
        "interval",
        "p_value",
        "signed",
        "signed_interval",
        "moment",
        "duration",
        "short",
        "plural",
        "words",
        "place",
        "named",
        "queue_kind",
        "by_kind",
    ):
        env.filters[name] = getattr(wording, name)
    env.filters["ticked"] = ticked
    env.filters["breakable"] = breakable
    env.filters["slices_in_order"] = slices_in_order
    env.tests["known"] = wording.known
    return env
