"""What the labelling page may ask, and what is done about it."""

import logging
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from embeddings.decoding.unusable import DecodeError
from pipeline.annotate.page import markup
from pipeline.annotate.page.backend import Desk
from pipeline.annotate.scan_notes import Note, Shape
from pipeline.contracts.answers import annotator_name

logger = logging.getLogger(__name__)

MAX_TASKS, MAX_HELD = 50, 3000
MAX_SECONDS = 24 * 3600.0
MAX_REPLY = 8000  # a line that names every independent finding
MAX_COMMENT, MAX_SHAPES = 4000, 50
Coordinate = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]
IMAGE_ID = "[0-9a-f]{16}"
ImageId = Annotated[str, Field(pattern=f"^{IMAGE_ID}$")]
Key = Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{8,64}$")]


class Asked(BaseModel):
    """What every request says: who asks."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    annotator: Annotated[str, Field(max_length=200)]


A = TypeVar("A", bound=Asked)


class AskedNext(Asked):
    """Tasks wanted."""

    num: Annotated[int, Field(ge=1, le=MAX_TASKS)]
    held: Annotated[tuple[ImageId, ...], Field(max_length=MAX_HELD)] = ()


class AskedAnswer(Asked):
    """An answer given."""

    image_id: ImageId
    reply: Annotated[str, Field(max_length=MAX_REPLY)]
    certainty: Annotated[str, Field(max_length=20)] | None
    seconds: Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)] | None
    key: Key


class AskedUndo(Asked):
    """An answer is taken back: `of`, or the latest where the page does not know it."""

    key: Key
    of: Key | None = None


class ShapeDrawn(BaseModel):
    """Something drawn on a scan; see `scan_notes.Shape`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    kind: Literal["box", "arrow", "length"]
    x0: Coordinate
    y0: Coordinate
    x1: Coordinate
    y1: Coordinate
    length_mm: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)] | None = None


class AskedNote(Asked):
    """A note on a scan."""

    image_id: ImageId
    comment: Annotated[str, Field(max_length=MAX_COMMENT)]
    flag: bool
    shapes: Annotated[tuple[ShapeDrawn, ...], Field(max_length=MAX_SHAPES)]


class AskedPriors(Asked):
    """Other scans of a scan's patient are wanted."""

    image_id: ImageId


class Api:
    """What the page's requests do; each method runs in a thread and returns what is sent as JSON."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def enter(self, asked: Asked) -> dict[str, Any]:
        """Somebody sits down."""
        name = self.desk.enter(asked.annotator)
        return {"annotator": name, **self._progress(name)}

    def next(self, asked: AskedNext) -> dict[str, Any]:
        """What to read next, and what is asked of it: both change when a new queue is drawn."""
        name = _name(asked)
        tasks = self.desk.next(name, asked.num, asked.held)
        answer = {"tasks": [asdict(task) for task in tasks], **self._deep(task.image_id for task in tasks)}
        return answer | self.question() | self._progress(name)

    def answer(self, asked: AskedAnswer) -> dict[str, Any]:
        """Keep an answer; it is on disk when this returns."""
        name = _name(asked)
        self.desk.answer(name, asked.image_id, asked.reply, asked.certainty, asked.seconds, asked.key)
        return self._progress(name)

    def undo(self, asked: AskedUndo) -> dict[str, Any]:
        """Take back an answer."""
        name = _name(asked)
        task = self.desk.undo(name, asked.key, asked.of)
        answer = {"task": asdict(task) if task else None, **self._deep([task.image_id] if task else [])}
        return answer | self._progress(name)

    def mine(self, asked: Asked) -> dict[str, Any]:
        """Her answers so far."""
        tasks = self.desk.own_answers(_name(asked))
        return {"answers": [asdict(task) for task in tasks], **self._deep(task.image_id for task in tasks)}

    def note(self, asked: AskedNote) -> dict[str, Any]:
        """Keep a note; it is on disk when this returns."""
        shapes = tuple(Shape(**shape.model_dump()) for shape in asked.shapes)
        self.desk.note(_name(asked), asked.image_id, Note(asked.comment.strip(), asked.flag, shapes))
        return {}

    def example(self, definition: int, number: int) -> bytes | None:
        """The bytes of an example; None: nothing to see."""
        try:
            path = self.desk.example(definition, number)
        except DecodeError as error:
            logger.warning("an example cannot be shown: %s", error)
            return None
        return path.read_bytes() if path else None

    def priors(self, asked: AskedPriors) -> dict[str, Any]:
        """Other scans of the same patient."""
        priors = self.desk.priors(_name(asked), asked.image_id)
        return {"priors": priors, **self._deep(priors)}

    def picture(self, image_id: str) -> bytes | None:
        """The bytes of a scan; None: nothing to see.

        Raises:
            OSError: when it cannot be read just now.
        """
        try:
            path = self.desk.picture(image_id) if re.fullmatch(IMAGE_ID, image_id) else None
        except DecodeError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
                raise error.__cause__ from error  # the disk or the network, not the scan
            logger.warning("scan %s cannot be shown: %s", image_id, error)
            return None
        return path.read_bytes() if path else None

    def question(self) -> dict[str, Any]:
        """What is asked now, and the classes an answer may name."""
        return {"title": self.desk.title, **markup.offer(self.desk.findings)}

    def _deep(self, image_ids: Iterable[str]) -> dict[str, Any]:
        """Those whose picture has 16 bits a grey value: a browser shows 8 of them, and our script all."""
        return {"deep": [image_id for image_id in image_ids if self.desk.is_deep(image_id)]}

    def _progress(self, name: str) -> dict[str, Any]:
        return {"progress": asdict(self.desk.progress(name))}


def _name(asked: Asked) -> str:
    return annotator_name(asked.annotator, where="annotator")
