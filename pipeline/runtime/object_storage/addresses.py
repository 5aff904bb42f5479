"""Which folders of this machine stand for a URL in this process, and how a person reads of them."""

import re
from pathlib import Path

_url_of: dict[Path, str] = {}


def remember(folder: Path, url: str) -> None:
    """Name a folder by its URL from now on."""
    _url_of[folder] = url


def shown(text: str) -> str:
    """A text for people and programs, with the URL of a run in place of its folder; files in it keep their paths."""
    for folder, url in _url_of.items():
        text = re.sub(rf"{re.escape(str(folder))}(?![\w/-]|\.\w)", lambda _, url=url: url, text)  # type: ignore[misc]
    return text
