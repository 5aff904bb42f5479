"""Drafts for regulators as Markdown: what the run's files show, and, plainly marked, what is left to the author."""

import re

from pipeline.report import checklists
from pipeline.report.checklists import Answer, Filled
from pipeline.report.gather import RunData

LEFT = "**LEFT TO THE AUTHOR:**"


def paper(name: str, run: RunData) -> str:
    """One of `checklists.PAPERS` as Markdown."""
    filled = checklists.fill_one(name, run)
    open_items = filled.num("in part", "author")
    lines = [
        f"# {filled.title}: {_plain(run.folder.resolve().name)}",
        f"{filled.name}. {filled.source}.",
        f"> {filled.note} {open_items} of {_num_items(filled)} items wait for the author.",
    ]
    for title, answers in filled.sections:
        lines += [f"## {title}", *(_item(answer) for answer in answers)]
    return "\n\n".join(lines) + "\n"


def _num_items(filled: Filled) -> int:
    return sum(len(answers) for _, answers in filled.sections)


def _item(answer: Answer) -> str:
    parts = [f"**{answer.number}** {_plain(answer.asks)}"]
    if answer.fact is not None:
        links = ", ".join(f"[{_plain(words)}]({address})" for words, address in answer.fact.links)
        parts.append(_plain(answer.fact.text) + (f" ({links})" if links else ""))
    if answer.status in ("in part", "author"):
        parts.append(f"{LEFT} {_plain(answer.add)}")
    return "\n\n".join(parts)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", " ".join(text.split()))
