"""`queue.html`, which annotators print or open: it never says why a scan was chosen, nor whose it is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.contracts.answers import REMARKS
from pipeline.contracts.finding_line import NONE, are_independent
from pipeline.pages.template_env import environment
from pipeline.pages.thumbnails import MAX_PIXELS, thumbnails

SIDE_PX = 448
TEMPLATES = Path(__file__).parent / "templates"


def queue_html(
    rows: Sequence[Mapping[str, Any]],
    *,
    round_index: int | None = None,
    findings: Sequence[str] = (),
    origin: Sequence[object] = ("", "", ""),
    num_kept_back: int = 0,
    side_px: int = SIDE_PX,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """A self-contained contact sheet, in order of rank.

    Of each row it reads `image_id`, `rank` and `file` alone, so that nothing else can leak; `file` only to
    load the picture.

    Args:
        rows: The round's queue, each with the path or URI of its picture.
        round_index: Shown in the title; `None` leaves it out.
        findings: The classes offered, with "cannot tell" and its like; empty leaves a blank line to write on. Of
            independent findings each can be marked as present or unknown, or "no finding" instead.
        origin: Annotator, round and run, which the saved answers carry.
        num_kept_back: Scans of the list that are not on the sheet, for text in their pictures.
        side_px: Longer side of a picture.
        max_pixels: Scans with more pixels get a placeholder.
        progress: Called with (done, total).
    """
    ordered = sorted(rows, key=lambda row: row["rank"])
    uris = {str(row["image_id"]): str(row["file"]) for row in ordered}
    pictures = thumbnails(uris, side_px=side_px, max_pixels=max_pixels, progress=progress)
    several = are_independent(findings)
    scans = [{"image_id": str(row["image_id"]), "rank": int(row["rank"])} for row in ordered]
    return (
        environment(TEMPLATES)
        .get_template("queue.html.j2")
        .render(
            scans=scans,
            pictures=pictures,
            round_index=round_index,
            findings=list(findings),
            several=several,
            whole=[NONE, *REMARKS] if several else [*findings, *REMARKS],
            origin=list(origin),
            num_kept_back=num_kept_back,
            num_missing=len(uris) - len(pictures),
        )
    )
