"""Who read the sealed holdout, how often and when."""

from dataclasses import dataclass

from pipeline.pages.wording import count, words
from pipeline.report.gather import Row, RunData

READERS = {
    "evaluate": "scores of a round",
    "evidence": "the evaluation in detail",
    "comparison": "a comparison with another run",
    "reference": "scores of the random draw on the same budget",
    "report": "this report, to show mistakes and curves",
    "audit": "the audit, to find leaks and count cases",
}


@dataclass(frozen=True)
class Reader:
    """All reads of one reader."""

    name: str
    what: str
    num_reads: int
    rounds: str
    first: str
    last: str


def readers(run: RunData) -> list[Reader]:
    """One row a reader, in the order they first read."""
    reads_of: dict[str, list[Row]] = {}
    for row in run.access:
        reads_of.setdefault(str(row.get("reader") or "not named"), []).append(row)
    return [
        Reader(
            name=name,
            what=READERS.get(name, ""),
            num_reads=len(rows),
            rounds=_rounds(rows),
            first=str(rows[0].get("time") or ""),
            last=str(rows[-1].get("time") or ""),
        )
        for name, rows in reads_of.items()
    ]


def _rounds(rows: list[Row]) -> str:
    numbers = sorted({row["round"] for row in rows if isinstance(row.get("round"), int)})
    if len(numbers) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{count(numbers[0])} to {count(numbers[-1])}"
    return words(count(number) for number in numbers)
