"""The fenced examples of a page, and a call of the command line in this process."""

import re
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from pipeline.runtime.object_storage import session
from tests.support.tiny import call

__all__ = ["all_fences", "call", "commands", "fences", "lines", "parse"]

_FENCE = re.compile(
    r"(?:<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Fence:
    kind: str
    body: str
    runs: bool
    slowly: bool
    file: str | None


def all_fences(text):
    """Every fenced example of a page, in order."""
    found = []
    for match in _FENCE.finditer(text):
        mark = match["mark"] or ""
        file = mark.removeprefix("file: ") if mark.startswith("file: ") else None
        found.append(Fence(match["kind"], match["body"], mark.startswith("runs"), mark == "runs slowly", file))
    return found


def fences(text, kind):
    return [fence for fence in all_fences(text) if fence.kind == kind]


def lines(fence):
    """Its `cxr-ssl` lines."""
    return [line for line in fence.body.splitlines() if line.startswith("cxr-ssl ")]


def commands(text):
    return [line for fence in fences(text, "sh") for line in lines(fence)]


def parse(group, words, line):
    """Have the real command line read the words, without doing anything."""
    while hasattr(group, "commands"):
        assert words, f"no command: {line}"
        assert words[0] in group.commands, f"no such command: {line}"
        group, words = group.commands[words[0]], words[1:]
    with mock.patch.object(session, "folder_of", lambda place, *_: Path(place)):  # an example's URL is nobody's
        group.make_context(group.name, list(words))  # raises for an unknown option or a missing argument
