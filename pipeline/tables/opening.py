"""A table is opened by what it is, not by what it is called."""

import re

from pipeline.contracts.errors import InputError
from pipeline.tables import characters, delimited, parquet, workbook
from pipeline.tables.notes import Notes
from pipeline.tables.table import IsHeader, Table

_AS_CSV, _OUT = "save it as CSV UTF-8, or as .xlsx", "write the table out as CSV or Parquet"
_TAR, _TAR_AT, _HEAD = b"ustar", 257, 4096
_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*\"|\[\s*[\[{\"])")
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
    (b"<table", "a web page", "save the table itself as CSV"),
    (b"<?xml", "an XML file", "write the table out as CSV or Parquet"),
    (b"ARROW1", "an Arrow file (Feather)", "write it out as Parquet or CSV"),
    (b"FEA1", "an Arrow file (Feather)", "write it out as Parquet or CSV"),
    (b"ORC", "an ORC file", "write it out as Parquet or CSV"),
    (b"\x80\x02", "a Python pickle", _OUT),
    (b"\x80\x03", "a Python pickle", _OUT),
    (b"\x80\x04", "a Python pickle", _OUT),
    (b"\x80\x05", "a Python pickle", _OUT),
    (b"\x93NUMPY", "a NumPy array", _OUT),
    (b"<stata_dta>", "a Stata file", _OUT),
    (b"$FL2", "an SPSS file", _OUT),
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
        if data[: len(magic)].lower() != magic.lower():
            continue
        if not magic.isalnum() or b"\0" in data[:_HEAD]:  # a column of a table may be called ORCID
            raise InputError(f"is no table but {what}", where=name, fix=fix)
    if data[128:132] == b"DICM":
        raise InputError("is no table but a DICOM file", where=name, fix="give the folder that it lies in")
    if data[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        raise InputError("is no table but a tar archive", where=name, fix="unpack it, and give the folder or the table")
    if _JSON.match(data[:_HEAD]):
        raise InputError("is no table but text in JSON", where=name, fix=_OUT)
    other = other_spreadsheet(data)
    if other is not None:
        raise InputError(f"is no table that can be read but {other}", where=name, fix=_AS_CSV)
    if data.startswith(b"PK\x03\x04"):
        raise InputError(
            "is no table but a ZIP archive", where=name, fix="call it NAME.zip, or give the table that is in it"
        )


def other_spreadsheet(data: bytes) -> str | None:
    """What a packed file is, where a spreadsheet wrote it that is not read here; None: something else."""
    if not data.startswith(b"PK\x03\x04"):
        return None
    if b"opendocument.spreadsheet" in data[:200]:
        return "an OpenDocument spreadsheet"
    signs = ((b"xl/workbook.bin", "a binary Excel workbook (.xlsb)"), (b"Index/Document.iwa", "a Numbers document"))
    return next((what for sign, what in signs if sign in data), None)
