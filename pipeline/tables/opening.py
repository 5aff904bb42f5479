"""A table is opened by what it is, not by what it is called."""

from pipeline.contracts.errors import InputError
from pipeline.tables import characters, delimited, parquet, workbook
from pipeline.tables.notes import Notes
from pipeline.tables.table import IsHeader, Table

_AS_CSV = "save it as CSV UTF-8, or as .xlsx"
# First bytes of what is no table, and the way out.
_OTHERS = (
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of the old form (.xls)", _AS_CSV),
    (b"%PDF", "a PDF document", "give the table itself as CSV, XLSX or Parquet"),
    (b"\x89PNG", "a picture (PNG)", "give the folder of the scans, or a table of them"),
    (b"\xff\xd8\xff", "a picture (JPEG)", "give the folder of the scans, or a table of them"),
    (b"II*\0", "a picture (TIFF)", "give the folder of the scans, or a table of them"),
    (b"MM\0*", "a picture (TIFF)", "give the folder of the scans, or a table of them"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"BZh", "packed with bzip2", "unpack it"),
    (b"\xfd7zXZ", "packed with xz", "unpack it"),
    (b"SQLite format", "a database (SQLite)", "write the table out as CSV"),
    (b"\x89HDF", "an HDF5 file", "write the table out as CSV or Parquet"),
    (b"<!DOCTYPE", "a web page", "save the table itself as CSV"),
    (b"<html", "a web page", "save the table itself as CSV"),
)


def open_table(name: str, data: bytes, is_header: IsHeader, notes: Notes) -> Table:
    """Open a CSV (with any of its separators, encodings and line ends, also packed with gzip), XLSX or Parquet table.

    Args:
        name: Of the file, for messages.
        data: Its bytes.
        is_header: Whether cells are the header: it finds the separator, the sheet, and the line below a title.
        notes: Takes what is forgiven.

    Raises:
        InputError: it is none of these, damaged or empty; with what it is.
    """
    data = characters.unpacked(name, data, notes)
    if not data.strip():
        raise InputError("is empty", where=name, fix="its first line names the columns")
    if data.startswith(parquet.MAGIC):
        return parquet.open_parquet(name, data, notes)
    if workbook.is_workbook(data):
        return workbook.open_workbook(name, data, is_header, notes)
    _refuse_others(name, data)
    return delimited.open_delimited(name, characters.as_utf8(name, data, notes), is_header, notes)


def _refuse_others(name: str, data: bytes) -> None:
    for magic, what, fix in _OTHERS:
        if data[: len(magic)].lower() == magic.lower():
            raise InputError(f"is no table but {what}", where=name, fix=fix)
    if data[128:132] == b"DICM":
        raise InputError("is no table but a DICOM file", where=name, fix="give the folder that it lies in")
    if data.startswith(b"PK\x03\x04"):
        kind = "an OpenDocument spreadsheet" if b"opendocument.spreadsheet" in data[:200] else "a ZIP archive"
        raise InputError(
            f"is no table but {kind}", where=name, fix=_AS_CSV if "Open" in kind else "give the table that is in it"
        )
