"""An opened table: its header, and its rows as text with the place of each in the file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.contracts.errors import InputError
from pipeline.tables.notes import Notes, counted

_ROWS_A_CHUNK = 20_000
_MAX_SHOWN = 5
Record = tuple[int, Sequence[str]]  # where it begins in the file, and its cells
IsHeader = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class Loaded:
    """Columns of a table.

    Attributes:
        columns: In the order asked for, N values each: text, or what Parquet holds.
        place_N: Line, or row of a sheet, where each row begins.
    """

    columns: list[pa.ChunkedArray]
    place_N: pa.ChunkedArray


@dataclass(frozen=True)
class Table:
    """A table that has been opened and not read yet.

    Attributes:
        name: Of the file, for messages.
        unit: What a place is: `line`, or `row`.
        header: The columns as written, without blanks around them.
        records: Gives the rows below the header, one after another, blank ones left out.
        notes: What was forgiven.
        typed: Reads columns where the file knows their types; None: all is text.
        objects: Columns whose cells are objects in the file, and are read as JSON.
    """

    name: str
    unit: str
    header: tuple[str, ...]
    records: Callable[[], Iterator[Record]]
    notes: Notes
    typed: Callable[[Sequence[int]], list[pa.ChunkedArray]] | None = None
    objects: frozenset[int] = frozenset()

    def load(self, columns: Sequence[int]) -> Loaded:
        """Read some columns of all rows.

        Raises:
            InputError: a row has more cells than the header, and they are not blank.
        """
        if self.typed is not None:
            read = self.typed(columns)
            num_rows = len(read[0]) if read else 0
            return Loaded(read, pa.chunked_array([pa.array(range(1, num_rows + 1), pa.int64())]))
        return self._load_text(columns)

    def where(self, place: int) -> str:
        """`scans.csv:26`, or `scans.xlsx, row 26`."""
        return f"{self.name}:{place}" if self.unit == "line" else f"{self.name}, {self.unit} {place}"

    def places(self, numbers: Iterable[int]) -> str:
        """`lines 2, 26`."""
        shown = list(numbers)
        more = " ..." if len(shown) > _MAX_SHOWN else ""
        return f"{self.unit}s {', '.join(map(str, shown[:_MAX_SHOWN]))}{more}"

    def _load_text(self, columns: Sequence[int]) -> Loaded:
        width = len(self.header)
        cells: list[list[str]] = [[] for _ in columns]
        places: list[int] = []
        chunks: list[list[pa.Array]] = [[] for _ in columns]
        place_chunks: list[pa.Array] = []
        short: list[int] = []

        def flush() -> None:
            for own, chunk in zip(cells, chunks, strict=True):
                chunk.append(pa.array(own, pa.string()))
                own.clear()
            place_chunks.append(pa.array(places, pa.int64()))
            places.clear()

        for place, row in self.records():
            if len(row) > width and any(cell.strip() for cell in row[width:]):
                self._refuse_long(place, len(row))
            if len(row) < width:
                short.append(place)
            places.append(place)
            for own, column in zip(cells, columns, strict=True):
                own.append(row[column] if column < len(row) else "")
            if len(places) >= _ROWS_A_CHUNK:
                flush()
        flush()
        if short:
            self.notes.warn(
                f"{counted(len(short), 'row')} end before the last column ({self.places(short)}); what is missing "
                "counts as blank"
            )
        kinds = [pa.chunked_array(chunk, pa.string()) for chunk in chunks]
        return Loaded(kinds, pa.chunked_array(place_chunks, pa.int64()))

    def _refuse_long(self, place: int, num_cells: int) -> None:
        # What the cells hold is not told: an unquoted comma puts the end of a report into them.
        raise InputError(
            f"has {num_cells} cells, the header has {len(self.header)} columns",
            where=self.where(place),
            fix="put quotation marks around a text that holds the separator"
            if self.unit == "line"
            else "give each column a name, in one row",
        )
