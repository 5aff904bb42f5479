"""The page as text: in pieces for the server, or whole for a file."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from pipeline.annotate.page.backend import PageOptions
from pipeline.annotate.page.modules import STATIC, asset, bundled, needed
from pipeline.contracts.answers import REMARKS
from pipeline.contracts.finding_line import NONE, are_independent
from pipeline.pages.served import doors as served_doors
from pipeline.pages.served.doors import Doors, content_hash
from pipeline.pages.served.shared_files import STYLE
from pipeline.pages.template_env import environment

ONLINE, OFFLINE = "start_online.js", "start_offline.js"
LETTERS = dict(zip(REMARKS, "cbn", strict=True))  # the key of each remark
TYPES = {STYLE: "text/css", "page.css": "text/css", **dict.fromkeys(needed(ONLINE), "text/javascript")}


def offer(findings: Sequence[str]) -> dict[str, Any]:
    """The findings as the page's scripts know them."""
    return {"findings": list(findings), "independent": are_independent(findings)}


@cache
def texts(language: str) -> dict[str, str]:
    """What the page says in a language, by key."""
    words: dict[str, str] = json.loads(asset(f"texts.{language}.json"))
    return words


def page_html(config: dict[str, Any], page: PageOptions, *, whole: bool = False) -> str:
    """The labelling page.

    Args:
        config: What the page's scripts need to know; `title` and what `offer` gives at least.
        page: How it looks and speaks.
        whole: Carry scripts and style in the page, which then needs no server.
    """
    return (
        environment(STATIC)
        .get_template("page.html.j2")
        .render(
            title=config["title"],
            project=page.project,
            t=texts(page.language),
            config={
                **config,
                "texts": texts(page.language),
                "min_seconds": page.min_seconds,
                "definitions": [asdict(definition) for definition in page.definitions],
                "remarks": [{"reply": reply, "key": key} for reply, key in LETTERS.items()],
                "none": NONE,
            },
            whole=_whole_page() if whole else None,
            served=needed(ONLINE),
        )
    )


def _whole_page() -> dict[str, str]:
    """What the page in a file carries, and the policy that admits this alone."""
    style, script = asset(STYLE) + asset("page.css"), bundled(OFFLINE)
    policy = (
        "default-src 'none'; img-src 'self' file: data:; base-uri 'none'; form-action 'none'; "
        f"style-src {content_hash(style)}; script-src {content_hash(script)}"
    )
    return {"style": style, "script": script, "policy": policy}


def doors(language: str = "en") -> Doors:
    """What somebody without a valid link sees."""
    return served_doors.doors(texts(language))
