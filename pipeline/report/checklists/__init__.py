"""Reporting checklists: their items in our own words, and what a machine can fill in from a run.

In: what a report has gathered. Out: items, each with what the run says to it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from pipeline.report.checklists import facts_changes, facts_data, facts_model, facts_results
from pipeline.report.checklists.fact import Fact, lies_in
from pipeline.report.gather import RunData

NAMES = ("claim_2024", "tripod_ai", "probast_ai")
PAPERS = ("ai_act_10", "change_plan")  # filled in the same way, and written as Markdown
Status = Literal["filled", "in part", "author", "not applicable"]
_KEYS = {"id", "asks", "fact", "add", "lacking", "na"}
_SILENT = "The run’s files do not say; state it in the paper."


@dataclass(frozen=True)
class Answer:
    """One item with what could be said to it.

    Attributes:
        number: As published.
        asks: What the item wants, in our words.
        status: filled by a machine, in part, left to the author, or nothing to ask here.
        fact: The machine's part.
        add: The author's part.
    """

    number: str
    asks: str
    status: Status
    fact: Fact | None = None
    add: str = ""


@dataclass(frozen=True)
class Filled:
    """One checklist, filled as far as a machine can."""

    id: str
    title: str
    name: str
    source: str
    note: str
    sections: list[tuple[str, list[Answer]]]

    def num(self, *statuses: Status) -> int:
        """How many items have one of these statuses."""
        return sum(answer.status in statuses for _, answers in self.sections for answer in answers)


def fill(run: RunData) -> list[Filled]:
    """All checklists for one run."""
    return [fill_one(name, run) for name in NAMES]


def fill_one(name: str, run: RunData) -> Filled:
    """One checklist, or one of `PAPERS`, for one run."""
    content = load(name)
    sections = [
        (section["title"], [_answer(item, run) for item in section["items"]]) for section in content["sections"]
    ]
    words = {key: content[key].strip() for key in ("title", "name", "source", "note")}
    return Filled(id=name.replace("_", "-"), sections=sections, **words)


def _answer(item: dict[str, str], run: RunData) -> Answer:
    number, asks, add = item["id"], item["asks"], item.get("add", "")
    if "na" in item:
        return Answer(number, asks, "not applicable", Fact(item["na"]))
    fact = _backed(run, filler(item["fact"])(run)) if "fact" in item else None
    if fact is None:
        return Answer(number, asks, "author", None, item.get("lacking") or add or _SILENT)
    if not fact.applies:
        return Answer(number, asks, "not applicable", fact)
    return Answer(number, asks, "in part" if add else "filled", fact, add)


def _backed(run: RunData, fact: Fact | None) -> Fact | None:
    """A fact with those of its links that lead somewhere; None where nothing in the run shows it."""
    if fact is None:
        return None
    links = tuple(link for link in fact.links if lies_in(run, link[1]))
    return replace(fact, links=links) if links else None


def filler(name: str) -> Callable[[RunData], Fact | None]:
    """The function behind a `fact:` of a checklist; a name that does not exist is our own mistake."""
    for module in (facts_data, facts_model, facts_results, facts_changes):
        function: Callable[[RunData], Fact | None] | None = getattr(module, name, None)
        if function is not None and function.__module__ == module.__name__:
            return function
    raise AssertionError(f"no fact is called {name}")


@cache
def load(name: str) -> dict[str, Any]:
    """The items of a checklist as its YAML file gives them."""
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(
        (Path(__file__).parent / f"{name}.yaml").read_text("utf-8")
    )
    for section in content["sections"]:
        for item in section["items"]:
            assert set(item) <= _KEYS and isinstance(item["id"], str), item
    return content
