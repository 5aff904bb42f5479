"""What is asked of annotators: which scans, of how many readers, and what is still open.

The page, the exported files, `status` and the loop itself all read this one list, so that they cannot disagree on
what a round waits for.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.contracts.answers import ADJUDICATOR, ORACLE, POOL, THIRD_READER, Answer, role_of, signature
from pipeline.contracts.tables import QUEUE, SECOND_LOOKS
from pipeline.runtime import run_files
from pipeline.runtime.run_files import asks_of, digest, kinds

READERS, TWO_AND_ADJUDICATOR, TWO_OF_THREE = "readers", "two_and_adjudicator", "two_of_three"
BLOCK = 10  # annotators see the scans of a block of ranks in an order of their own


@dataclass(frozen=True)
class Ask:
    """One scan of a queue.

    Attributes:
        image_id: The scan.
        rank: Its priority, 1 = first.
        kind: Why the queue holds it; no annotator may learn it.
        readers: Annotators who have to answer it.
        cluster: The cluster it stands for, if any.
        design: What is done where two readers differ, as `queue.design`.
    """

    image_id: str
    rank: int
    kind: str
    readers: int
    cluster: int | None = None
    design: str = READERS

    @property
    def again(self) -> bool:
        """Whether it was answered before, so that only an answer of this round counts."""
        return self.kind in SECOND_LOOKS


@dataclass(frozen=True)
class Worklist:
    """A round's queue with the answers that count for it.

    Attributes:
        round_index: From 1.
        asks: In order of rank.
        readers: Scan to the annotators who have answered what is asked, third readers too.
        answered: Scan to all who ever answered it.
        replies: Scan to the latest reply of each who answered what is asked, by the name signed with.
    """

    round_index: int
    asks: tuple[Ask, ...]
    readers: dict[str, set[str]]
    answered: dict[str, set[str]]
    replies: dict[str, dict[str, str]] = field(default_factory=dict)

    @cached_property
    def by_id(self) -> dict[str, Ask]:
        """Its scans by name."""
        return {ask.image_id: ask for ask in self.asks}

    def hear(self, answer: Answer) -> None:
        """Count one more answer."""
        ask = self.by_id.get(answer.image_id)
        self.answered.setdefault(answer.image_id, set()).add(answer.person)
        if ask is not None and (not ask.again or answer.round_index >= self.round_index):
            self.replies.setdefault(answer.image_id, {})[answer.annotator] = answer.reply
            if answer.role != ADJUDICATOR:
                self.readers.setdefault(answer.image_id, set()).add(answer.person)

    def lacks(self, ask: Ask, annotator: str) -> bool:
        """Whether a scan lacks a reader, and she can be it."""
        return self.missing_readers(ask) > 0 and annotator not in self.readers.get(ask.image_id, ())

    def awaits(self, ask: Ask, annotator: str) -> bool:
        """Whether a scan lacks a decision, and she can take it: who read the scan judges nobody's reading of it."""
        return self.lacks_decision(ask) and annotator not in self.readers.get(ask.image_id, ())

    def missing(self, ask: Ask) -> int:
        """Answers a scan still lacks: readings, and the decision where its readers differ."""
        return self.missing_readers(ask) + self.lacks_decision(ask)

    def missing_readers(self, ask: Ask) -> int:
        """Readers a scan still lacks."""
        return max(0, self.wanted(ask) - len(self.readers.get(ask.image_id, ())))

    def wanted(self, ask: Ask) -> int:
        """Readers a scan needs: one more than was asked where two of three decide and two differ."""
        return ask.readers + (ask.design == TWO_OF_THREE and len(self.disputed(ask)) > 1)

    def lacks_decision(self, ask: Ask) -> bool:
        """Whether its readers differ and an adjudicator has yet to decide."""
        signed = self.replies.get(ask.image_id, {})
        return (
            ask.design == TWO_AND_ADJUDICATOR
            and len(self.readers.get(ask.image_id, ())) >= ask.readers
            and len(self.disputed(ask)) > 1
            and not any(role_of(name) == ADJUDICATOR for name in signed)
        )

    def disputed(self, ask: Ask) -> list[str]:
        """The different replies of its readers, in an order that tells nothing of who gave them."""
        signed = self.replies.get(ask.image_id, {})
        return sorted({reply for name, reply in signed.items() if role_of(name) is None and name not in (POOL, ORACLE)})

    def signed(self, image_id: str, person: str, *, adjudicates: bool = False) -> str:
        """How an answer of hers is signed: as her answer to this scan was before, else by what the scan needs."""
        ask, known = self.by_id.get(image_id), self.replies.get(image_id, {})
        if adjudicates or ask is None:
            return signature(person, ADJUDICATOR if adjudicates else None)
        breaks_tie = self.wanted(ask) > ask.readers and len(self.readers.get(image_id, ())) >= ask.readers
        return signature(person, THIRD_READER if breaks_tie and person not in known else None)

    def need_others(self) -> tuple[int, list[str]]:
        """How many open scans have a reader already, and who has read all of those: another one is needed."""
        open_ = [ask for ask in self.asks if self.missing_readers(ask)]
        begun = [self.readers[ask.image_id] for ask in open_ if self.readers.get(ask.image_id)]
        return len(begun), sorted(set.intersection(*begun)) if begun else []

    def summary(self) -> str:
        """What it waits for, in a sentence without its end; empty when it waits for nothing."""
        open_ = self.open()
        if not open_:
            return ""
        num, total = sum(map(self.missing_readers, open_)), sum(map(self.wanted, self.asks))
        begun, names = self.need_others()
        others = f"; {begun} scans need another reader than {', '.join(names)}" if names else ""
        num_disputes = sum(map(self.lacks_decision, open_))
        decide = (
            f"; {num_disputes} of its scans wait for an adjudicator (annotate --adjudicator NAME)"
            if num_disputes
            else ""
        )
        return f"round {self.round_index} waits for {num} of {total} labels{others}{decide}"

    def open(self) -> list[Ask]:
        """Scans that lack a reader or a decision."""
        return [ask for ask in self.asks if self.missing(ask)]


def turn(ask: Ask, annotator: str) -> tuple[int, str]:
    """Sort key of an annotator's own order: by blocks of ranks, shuffled inside."""
    return (ask.rank - 1) // BLOCK, digest(annotator, ask.image_id)


def num_rereads(annotator: str, round_index: int, num_fresh: int, share: float) -> int:
    """How many of her own earlier answers she is asked again by the time she has read so many other scans.

    After each scan with the probability `share`, by draws of her own: no beat tells which scan is one.
    """
    rng = np.random.default_rng(int(digest("again", annotator, round_index)[:16], 16))
    return int((rng.random(num_fresh) < share).sum())


def open_worklist(folder: Path, round_index: int, answers: Iterable[Answer], *, oracle: bool = False) -> Worklist:
    """The list of a round, from its queue and the answers that stand.

    Args:
        folder: Run directory.
        round_index: From 1; its `queue.parquet` must be there.
        answers: All answers that stand.
        oracle: One reader a scan, whatever the queue was drawn with.
    """
    round_folder = run_files.round_folder(folder, round_index)
    asks = _asks(round_folder, 1 if oracle else None)
    open_work = Worklist(round_index, asks, {}, {})
    for answer in answers:
        open_work.hear(answer)
    return open_work


def sign(open_work: Worklist, answers: Iterable[Answer]) -> list[Answer]:
    """Answers signed as the list asks for them, in the order in which they came; the list hears them.

    Whoever reads a scan on which two others differ is its third reader, by page or by file.
    """
    signed = []
    for answer in answers:
        signed.append(replace(answer, annotator=open_work.signed(answer.image_id, answer.annotator)))
        open_work.hear(signed[-1])
    return signed


def rereads(folder: Path, answers: Iterable[Answer], annotator: str, round_index: int) -> list[str]:
    """Scans she answered once, in an earlier round, in the order in which she may be asked again, blind.

    Scans of the holdout stay sealed, and what the round asks anyway is left out.
    """
    spoken: dict[str, set[int]] = {}
    for answer in answers:
        if answer.annotator == annotator:
            spoken.setdefault(answer.image_id, set()).add(answer.round_index)
    before = kinds(folder, round_index)
    now = {image_id for image_id, r, _ in asks_of(folder) if r == round_index}
    once = [
        image_id
        for image_id, rounds in spoken.items()
        if len(rounds - {round_index}) == 1
        and image_id in before
        and "holdout" not in before[image_id]
        and image_id not in now
    ]
    return sorted(once, key=lambda image_id: digest("reread", annotator, round_index, image_id))


def how_to_answer(folder: Path, round_index: int) -> str:
    """The commands that answer a queue, one a line."""
    queue = run_files.round_folder(folder, round_index) / run_files.QUEUE_TABLE
    num_missing = _num_on_the_page_alone(queue)
    shows = f"{run_files.QUEUE_PAGE} shows {'the rest' if num_missing else 'them all'}"
    alone = f"; {num_missing} with burnt-in text in the browser alone" if num_missing else ""
    return (
        f"label in the browser: cxr-ssl annotate {folder}\n"
        f"or as files: cxr-ssl queue export {folder} (or fill the label column of {queue}; {shows}{alone})\n"
        f"  then: cxr-ssl labels import {folder} {queue} --annotator NAME\n"
        f"and go on: cxr-ssl run --out {folder} --resume"
    )


def _num_on_the_page_alone(queue: Path) -> int:
    """Scans of a queue that its table leaves out, because they may not be handed on."""
    if not queue.exists():
        return 0
    with queue.open(encoding="utf-8", newline="") as stream:
        return len(QUEUE.read(queue.parent)) - sum(1 for _ in csv.DictReader(stream))


def _asks(round_folder: Path, readers: int | None) -> tuple[Ask, ...]:
    rows = QUEUE.read(round_folder).sort_by("rank").to_pylist()
    options = _options(round_folder)
    design = READERS if readers else str(options.get("design", READERS))
    wanted = readers or (int(options.get("readers_per_scan", 1)) if design == READERS else 2)
    fresh = [row["image_id"] for row in rows if row["kind"] not in SECOND_LOOKS]
    double = set() if readers else _double_read(fresh, float(options.get("double_read_share", 0.0)))
    return tuple(
        Ask(
            row["image_id"],
            row["rank"],
            row["kind"],
            1 if row["kind"] in SECOND_LOOKS else wanted + (row["image_id"] in double),
            row["cluster"],
            READERS if row["kind"] in SECOND_LOOKS else design,
        )
        for row in rows
    )


def _double_read(image_ids: Sequence[str], share: float) -> set[str]:
    return set(sorted(image_ids, key=lambda image_id: digest("double", image_id))[: round(share * len(image_ids))])


def _options(round_folder: Path) -> dict[str, Any]:
    """The queue options it was drawn with."""
    path = round_folder / run_files.QUEUE_OPTIONS
    content = json.loads(path.read_text("utf-8")) if path.exists() else {}
    options: dict[str, Any] = content.get("queue", {})
    return options
