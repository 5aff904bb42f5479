"""What the labelling page asks of the labels behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.annotate.scan_notes import Note


@dataclass(frozen=True)
class Task:
    """One scan on somebody's list.

    Attributes:
        image_id: The scan, 16 hex digits.
        number: Its place in this annotator's list, from 1.
        num_priors: Other scans of the same patient that can be looked at.
        reason: Why this scan was chosen; None while the annotator is blind to it.
        reply: Her own answer, of a scan that she has just taken back or may go back to; else None.
        certainty: Of that answer.
        spacing_mm: Between two pixels of the scan; None where it is not known.
        note: What she noted on it so far.
        disputed: To an adjudicator, the different answers of the scan's readers; empty for everybody else.
    """

    image_id: str
    number: int
    num_priors: int = 0
    reason: str | None = None
    reply: str | None = None
    certainty: str | None = None
    spacing_mm: float | None = None
    note: Note | None = None
    disputed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """How far an annotator and the team are.

    Attributes:
        done: Answered by this annotator in this round.
        left: Still open for this annotator.
        team_done: Answered, of the whole queue.
        team_total: Scans in the whole queue.
        seconds_per_scan: This annotator's median; None before there is one.
    """

    done: int
    left: int
    team_done: int
    team_total: int
    seconds_per_scan: float | None


@dataclass(frozen=True)
class Definition:
    """What an answer means.

    Attributes:
        reply: The answer.
        text: When it is right.
        num_examples: Pictures that show it; see `Desk.example`.
    """

    reply: str
    text: str
    num_examples: int = 0


@dataclass(frozen=True)
class PageOptions:
    """How the page looks and speaks.

    Attributes:
        language: `en` or `de`.
        project: Its name; empty: none is shown.
        min_seconds: An answer that comes sooner has to be given again.
        definitions: In the order of the answers.
    """

    language: str = "en"
    project: str = ""
    min_seconds: float = 0.0
    definitions: tuple[Definition, ...] = ()


class Desk(Protocol):
    """The round's list of scans and its answers: thread-safe, blocking, quick.

    The text of an `InputError` raised here is shown to the annotator: it names no file and no patient.
    """

    findings: tuple[str, ...]
    page: PageOptions

    @property
    def title(self) -> str:
        """What is asked now, e.g. `Round 2`; another once a new queue is drawn."""
        ...

    def enter(self, annotator: str) -> str:
        """The name as it is kept; `InputError` when it is none."""
        ...

    def next(self, annotator: str, num: int, held: Sequence[str]) -> list[Task]:
        """At most `num` tasks, reserved for the annotator; `held`: on the screen, or answered and not yet sent."""
        ...

    def answer(
        self, annotator: str, image_id: str, reply: str, certainty: str | None, seconds: float | None, key: str
    ) -> None:
        """Keep an answer: on disk on return; the same answer again, under its key, changes nothing.

        Raises:
            InputError: for a scan or a reply it does not know, or another answer under a known key.
            OSError: when it cannot be saved.
        """
        ...

    def undo(self, annotator: str, key: str, of: str | None = None) -> Task | None:
        """Take back one answer; the scan that is open again, None when there is nothing to take back.

        Args:
            annotator: Whose answer.
            key: Names this undo, so that a repeated request undoes once.
            of: The answer's key; None: her latest of this round that was given at the page.
        """
        ...

    def own_answers(self, annotator: str) -> list[Task]:
        """Her answers of this round that stand, the latest first, each with what she said."""
        ...

    def note(self, annotator: str, image_id: str, note: Note) -> None:
        """Keep a comment, a flag and what was drawn on a scan; on disk on return.

        Raises:
            InputError: for a scan it does not know.
            OSError: when it cannot be saved.
        """
        ...

    def example(self, definition: int, number: int) -> Path | None:
        """An example of a definition as a PNG; None where there is none.

        Raises:
            DecodeError: when there is no picture in its file.
        """
        ...

    def progress(self, annotator: str) -> Progress:
        """How far the annotator and the team are."""
        ...

    def priors(self, annotator: str, image_id: str) -> list[str]:
        """Other scans of the same patient that may be looked at."""
        ...

    def is_deep(self, image_id: str) -> bool:
        """Whether the scan's picture has 16 bits a grey value; of a scan that is not hers to see: no."""
        ...

    def picture(self, image_id: str) -> Path | None:
        """The scan as a grey PNG of 8 or 16 bits; None when it is not for the annotators to see.

        Raises:
            DecodeError: when there is no picture in the scan's file.
            OSError: when it cannot be read or written just now.
        """
        ...
