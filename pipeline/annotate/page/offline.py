"""The labelling page as one file that opens without a server, next to a folder of pictures."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from pipeline.annotate.page import markup
from pipeline.annotate.page.backend import PageOptions, Task
from pipeline.contracts.answers import MAX_NAME, RESERVED

COLUMNS = (
    "image_id",
    "rank",
    "file",
    "label",
    "certainty",
    "seconds",
    "labelled_at",
    "annotator",
    "round",
    "run",
)


def offline_html(
    tasks: Sequence[Task],
    findings: Sequence[str],
    *,
    annotator: str,
    round_index: int,
    run: str,
    title: str,
    page: PageOptions = PageOptions(),  # noqa: B008 - frozen
) -> str:
    """The page of one annotator; it shows `images/IMAGE_ID.png` beside it and saves `answers.csv`.

    Args:
        tasks: What to read, in this order.
        findings: The classes an answer may name.
        annotator: Who reads; empty: the page asks.
        round_index: The round that asks.
        run: The run that asks; it stands in every row saved.
        title: What the page is called.
        page: How it looks and speaks; example pictures of definitions stay with the server.
    """
    return markup.page_html(
        {
            "title": title,
            **markup.offer(findings),
            "tasks": [asdict(task) for task in tasks],
            "annotator": annotator,
            "names": {"reserved": RESERVED, "longest": MAX_NAME},
            "round": round_index,
            "run": run,
            "columns": COLUMNS,
        },
        replace(page, definitions=tuple(replace(definition, num_examples=0) for definition in page.definitions)),
        whole=True,
    )
