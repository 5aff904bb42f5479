"""What somebody sees who has not come in by a page's link."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.pages.template_env import environment

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Doors:
    """The pages before the page.

    Attributes:
        locked: HTML for who has no valid link.
        locked_style: The CSP source that admits the style of `locked`.
        onward: HTML that goes on to the page by itself.
    """

    locked: str
    locked_style: str
    onward: str


def doors(words: Mapping[str, str]) -> Doors:
    """Both pages in the words of the page behind them.

    Args:
        words: `language`, `page_name`, `locked_title`, `locked_text`, `locked_kept`, `locked_ask` and `onward`.
    """
    style = (TEMPLATES / "locked.css").read_text("utf-8")
    locked = environment(TEMPLATES).get_template("locked.html.j2").render(style=style, t=words)
    return Doors(locked, content_hash(style), environment(TEMPLATES).get_template("onward.html.j2").render(t=words))


def content_hash(text: str) -> str:
    """The CSP source that admits an inline script or style of this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
