"""The page as text: in pieces for the server, or whole for a file."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.contracts.answers import REMARKS
from pipeline.contracts.finding_line import NONE, Independent

STATIC = Path(__file__).parent / "static"
SHARED_SCRIPTS = ("view.js", "clock.js", "outbox.js", "pictures.js", "help.js", "marks.js")
ONLINE, OFFLINE = "online.js", "offline.js"
LETTERS = dict(zip(REMARKS, "cbn", strict=True))  # the key of each remark
TYPES = {"page.css": "text/css", **dict.fromkeys((*SHARED_SCRIPTS, ONLINE, "page.js"), "text/javascript")}


def offer(findings: Sequence[str]) -> dict[str, Any]:
    """The findings as the page's scripts know them."""
    return {"findings": list(findings), "independent": isinstance(findings, Independent)}


def page_html(config: dict[str, Any], *, whole: bool = False) -> str:
    """The labelling page.

    Args:
        config: What the page's scripts need to know; `title` and what `offer` gives at least.
        whole: Carry scripts and style in the page, which then needs no server.
    """
    scripts = [*SHARED_SCRIPTS, OFFLINE if whole else ONLINE, "page.js"]
    texts = {name: asset(name) for name in [*scripts, "page.css"]} if whole else {}
    policy = (
        "default-src 'none'; img-src 'self' file: data:; base-uri 'none'; form-action 'none'; "
        f"style-src {content_hash(texts['page.css'])}; "
        f"script-src {' '.join(content_hash(texts[name]) for name in scripts)}"
        if whole
        else None
    )
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=config["title"],
            config={
                **config,
                "remarks": [{"reply": reply, "key": key} for reply, key in LETTERS.items()],
                "none": NONE,
            },
            scripts=scripts,
            texts=texts,
            policy=policy,
        )
    )


def locked_html() -> str:
    """What somebody without a valid link sees."""
    return _environment().get_template("locked.html.j2").render(style=asset("locked.css"))


def locked_style_hash() -> str:
    """The CSP source that admits the style of `locked_html`."""
    return content_hash(asset("locked.css"))


def onward_html() -> str:
    """A page that goes on to the labelling page by itself."""
    return _environment().get_template("onward.html.j2").render()


@cache
def asset(name: str) -> str:
    """A script or style of the page."""
    return (STATIC / name).read_text("utf-8")


def content_hash(text: str) -> str:
    """The CSP source that admits an inline script or style of this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(STATIC),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
