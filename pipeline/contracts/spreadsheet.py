"""Cells that no spreadsheet runs as a formula: every table that people open is written through here.

A cell that begins with one of `FORMULA` is run when the table is opened (CWE-1236; OWASP, "CSV Injection"). A quotation
mark before it makes it text, and reading takes it off again. A cell that has quotation marks there already gets one
more, so that each text comes back as it was.
"""

import pyarrow as pa
import pyarrow.compute as pc

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_MARK = "'"
_RUNS = r"^'*[=+\-@\t\r\n]"


def defused(text: str) -> str:
    """A cell as it is written."""
    return f"{_MARK}{text}" if text.lstrip(_MARK).startswith(FORMULA) else text


def restored(text: str) -> str:
    """A cell as it was meant: the inverse of `defused`, and the text itself where nobody defused it."""
    return text[1:] if text.startswith(_MARK) and text.lstrip(_MARK).startswith(FORMULA) else text


def defused_table(table: pa.Table) -> pa.Table:
    """A table whose texts are as they are written; numbers stay numbers."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = table.column(place)
            marked = pc.binary_join_element_wise(_MARK, column, "")
            table = table.set_column(place, field, pc.if_else(pc.match_substring_regex(column, _RUNS), marked, column))
    return table
