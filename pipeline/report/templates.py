"""The jinja2 environment of the report: autoescape on, and the number formats as filters."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.report import wording


@cache
def environment() -> Environment:
    """Templates of this package; whatever a file or finding is called, it is escaped."""
    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
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
        "duration",
        "short",
        "plural",
        "words",
    ):
        env.filters[name] = getattr(wording, name)
    env.tests["known"] = wording.known
    return env
