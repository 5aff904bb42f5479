"""What a reader of a public set is given, and what it gives back.

Legend: N scans, C findings, R readings. Of a finding 1 is present, 0 absent, -1 not known.
"""

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embeddings.decode import IMAGE_ENDINGS
from embeddings.decoding.files import read_uri
from pipeline.contracts.errors import InputError

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
_MAX_SHOWN = 3
_ENDINGS_OF_TABLES = (".csv*", ".tsv*", ".xlsx")  # that a table called `.csv*` by its owner may have been saved with

# Who said it, and of what: what a report should be able to tell of a label.
ON_SCAN = "physician, on the scan"
ON_REPORT = "physician, on the report"
CODER_ON_REPORT = "coder, on the report"
NLP_ON_REPORT = "NLP, on the report"
NETWORK_ON_REPORT = "network, on the report"
CASE_RECORD = "case record"


@dataclass(frozen=True)
class SetFolder:
    """A set as it lies there: a folder, a ZIP archive or a place in an object store.

    Attributes:
        root: Its address; `root/file` is the address of a file.
        files: Paths of all files in it, with / and relative to it.
    """

    root: str
    files: tuple[str, ...]

    def find_all(self, *patterns: str) -> list[str]:
        """Files, none of them images, whose name is like a pattern in any case: those nearest to the top first.

        A table may have been saved with another ending.
        """
        every = [pattern.replace(".csv*", ending) for ending in _ENDINGS_OF_TABLES for pattern in patterns]
        like = re.compile("|".join(map(fnmatch.translate, dict.fromkeys(every))), re.IGNORECASE)
        return [path for path in self._not_images if like.match(path.rpartition("/")[2])]

    @cached_property
    def _not_images(self) -> list[str]:
        """Files that may be tables, nearest to the top first: few, beside the scans."""
        others = [path for path in self.files if not path.lower().endswith(IMAGE_ENDINGS) and not _is_hidden(path)]
        return sorted(others, key=lambda path: (path.count("/"), path))

    def find(self, *patterns: str) -> str | None:
        """The first of `find_all`; None where there is none."""
        return next(iter(self.find_all(*patterns)), None)

    def need(self, title: str, *patterns: str) -> str:
        """The first of `find_all`.

        Raises:
            InputError: there is none, so this is no folder of that set.
        """
        file = self.find(*patterns)
        if file is None:
            tables = [path for path in self._not_images if path.lower().endswith((".csv", ".csv.gz", ".tsv", ".xlsx"))]
            there = f"; there is {', '.join(map(repr, tables[:_MAX_SHOWN]))}" if tables else ""
            raise InputError(
                f"no table of {title} is in this folder: no file is called {' or '.join(patterns)}{there}",
                where=self.root,
                fix=("call the set's own table as its owner does, or " if tables else "")
                + "point pool.uri at the folder that holds the set's own table, with the scans in it or below it",
            )
        return file

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises:
            InputError: it cannot be read.
        """
        try:
            return read_uri(f"{self.root}/{path}")
        except OSError as error:
            raise InputError(
                f"the file cannot be read: {error.strerror or error}",
                where=f"{self.root}/{path}",
                fix="check your access",
            ) from error


@dataclass(frozen=True)
class Readings:
    """What each of several readers said.

    Attributes:
        scan_R: Row of the scan in `SetScans`.
        reader_R: Who read it.
        present_RC: What was said of each finding.
    """

    scan_R: NDArray[np.int64]
    reader_R: pa.Array
    present_RC: NDArray[np.int8]


@dataclass(frozen=True)
class SetScans:
    """What a set's own tables say: a row a scan, in the set's order, whether its file is there or not.

    Attributes:
        title: The set's name, for people.
        file_N: Name of each scan's file, or its path below some folder; its ending may differ from the file's.
        findings: C names, as the set writes them.
        present_NC: What is known of each.
        about: Known column (patient_id, age, sex, view, source, official_split) to its values (N), as text.
        provenance_N: Who said it, and of what; see the constants of this module.
        usual: The findings that a pool has where `pool.findings` names none; None: all.
        class_N: One class each (N, null unknown), where the scans of a set are of classes.
        readings: Where several people read a scan; `present_NC` is then what most of them say.
        num_uncertain: Values that the set itself calls uncertain (-1); they count as unknown.
        left_out: Rows that are no radiographs, by reason; they are not among the N.
        num_parts: Fewest last parts of a path by which a file of the set can be told from the others.
        other_file_N: Another name that a scan's file may have.
    """

    title: str
    file_N: pa.ChunkedArray
    findings: tuple[str, ...]
    present_NC: NDArray[np.int8]
    about: Mapping[str, pa.ChunkedArray]
    provenance_N: pa.ChunkedArray
    usual: tuple[str, ...] | None = None
    class_N: pa.ChunkedArray | None = None
    readings: Readings | None = None
    num_uncertain: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    num_parts: int = 1
    other_file_N: pa.ChunkedArray | None = None


Reader = Callable[[SetFolder], SetScans]


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))
