"""One row of a file that came back from an annotator, as every reader of such files gives it."""

import datetime as dt
from typing import NamedTuple


class Filled(NamedTuple):
    """A row as the file has it; nothing in it is checked against the run yet.

    Attributes:
        where: File and line, or task, for messages.
        image_id: The scan it names.
        reply: The label as written; empty: not answered.
        reader: Who, where the file says so; empty otherwise.
        certainty: As written; empty where the file does not say.
        seconds: Time spent on the scan; None where the file does not say.
        time: When the answer was given, UTC; None where the file does not say.
        round_index: The round it was exported for; None where the file does not say.
        run: The run it was exported from; empty where the file does not say.
        beyond: What stands in cells behind the last column.
    """

    where: str
    image_id: str
    reply: str
    reader: str = ""
    certainty: str = ""
    seconds: float | None = None
    time: dt.datetime | None = None
    round_index: int | None = None
    run: str = ""
    beyond: str = ""
