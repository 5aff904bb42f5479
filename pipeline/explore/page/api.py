"""What the page may ask, and what is done about it; each function runs in a thread."""

import json
import logging
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from pipeline.explore.scan_filter import Choice, Key, Order, Side, Strict
from pipeline.explore.viewer import Viewer

logger = logging.getLogger(__name__)

MAX_PAGE = 200  # scans of the gallery that one request may ask for
Name = Annotated[str, Field(max_length=20_000)]  # checked in words later, so that somebody who pastes a book is told


class About(Strict):
    """What is there to look at."""


class Points(Strict):
    """The chosen scans on the map, coloured by a column."""

    choice: Choice
    color: Key | None = None
    box: tuple[Side, Side, Side, Side] | None = None


class Gallery(Strict):
    """A page of the chosen scans, each with the words of a few columns."""

    choice: Choice
    order: Order = Order()
    show: Annotated[tuple[Key, ...], Field(max_length=6)] = ()
    offset: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    num: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 60


class Scan(Strict):
    """One scan, by its name or by its point's row."""

    image_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = None
    row: Annotated[int, Field(ge=0, le=2**32)] | None = None


class Find(Strict):
    """Scans by the first letters of their names, as reports print them."""

    begins: Annotated[str, Field(pattern="^[0-9a-fA-F]{4,16}$")]


class Mark(Strict):
    """Scans are tagged or wished for, or that is taken back; `tag` is None of a wish."""

    who: Name
    choice: Choice
    tag: Name | None = None
    give: bool = True


class View(Strict):
    """The view now is kept under a name."""

    who: Name
    name: Name
    choice: Choice
    order: Order = Order()
    color: Key | None = None


class Export(Strict):
    """The chosen scans as a table."""

    choice: Choice
    order: Order = Order()
    manifest: bool = False


class Api:
    """What the page's requests do."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer

    def about(self, asked: About) -> dict[str, Any]:
        """Columns, tags, views."""
        return self.viewer.about()

    def points(self, asked: Points) -> Response:
        """Points as bytes, see `map_points`."""
        return Response(self.viewer.points(asked.choice, asked.color, asked.box), media_type="application/octet-stream")

    def gallery(self, asked: Gallery) -> dict[str, Any]:
        """Scans of the gallery."""
        return self.viewer.gallery(asked.choice, asked.order, asked.offset, asked.num, asked.show)

    def scan(self, asked: Scan) -> dict[str, Any]:
        """All that may be said of one scan."""
        image_id = asked.image_id or (None if asked.row is None else self.viewer.one_of(asked.row))
        return {"scan": None if image_id is None else self.viewer.scan(image_id)}

    def find(self, asked: Find) -> dict[str, Any]:
        """Names of the scans that begin so."""
        return {"named": self.viewer.beginning(asked.begins)}

    def tag(self, asked: Mark) -> dict[str, Any]:
        """Tag scans, or take a tag from them."""
        done = self.viewer.tag(asked.who, asked.tag or "", asked.choice, give=asked.give)
        return {**done, "about": self.viewer.about()}

    def wish(self, asked: Mark) -> dict[str, Any]:
        """Wish for scans in the next queue, or take that back."""
        done = self.viewer.wish(asked.who, asked.choice, give=asked.give)
        return {**asdict(done), "about": self.viewer.about()}

    def view(self, asked: View) -> dict[str, Any]:
        """Keep a view."""
        kept = json.loads(asked.model_dump_json(include={"choice", "order", "color"}))
        return {"about": self.viewer.save_view(asked.who, asked.name, kept)}

    def export(self, asked: Export) -> Response:
        """A table to take away."""
        text = self.viewer.export(asked.choice, asked.order, manifest=asked.manifest)
        return Response(text, media_type="text/csv; charset=utf-8")
