"""Bytes to UTF-8 text: UTF-8 with or without a mark, UTF-16 and UTF-32, packed with gzip or not; nothing is guessed."""

import codecs
import zlib

from pipeline.contracts.errors import InputError
from pipeline.tables.notes import Notes, counted

GZIP_MAGIC = b"\x1f\x8b"
# Soft hyphen, zero-width space, word joiner, mark of the order of bytes.
INVISIBLE = "\u00ad\u200b\u2060\ufeff"
MAX_BYTES = 2**30  # of a table, unpacked
_MARKS = (  # UTF-32's mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def unpacked(name: str, data: bytes, notes: Notes) -> bytes:
    """What a gzip file holds; anything else as it is.

    Raises:
        InputError: it is damaged, or unpacks to more than `MAX_BYTES`.
    """
    if not data.startswith(GZIP_MAGIC):
        return data
    parts, size, rest = [], 0, data
    try:
        while rest.startswith(GZIP_MAGIC):  # a gzip file may hold several parts
            unpacker = zlib.decompressobj(wbits=31)
            part = unpacker.decompress(rest, MAX_BYTES - size + 1)
            size += len(part)
            if size > MAX_BYTES:
                raise InputError(
                    f"unpacks to more than {MAX_BYTES // 2**20} MiB", where=name, fix="give a table of its own rows"
                )
            if not unpacker.eof:
                raise InputError("the gzip file is cut off", where=name, fix="copy or download it again")
            parts.append(part)
            rest = unpacker.unused_data
    except zlib.error as error:
        raise InputError(f"is a damaged gzip file ({error})", where=name, fix="copy or download it again") from error
    notes.mention("is packed with gzip")
    return b"".join(parts)


def as_utf8(name: str, data: bytes, notes: Notes) -> bytes:
    """The same text as UTF-8 without a mark.

    Raises:
        InputError: it is no text in one of these encodings; with the line.
    """
    encoding = next((own for mark, own in _MARKS if data.startswith(mark)), None) or _wide_without_mark(data)
    if encoding is not None:
        try:
            data = data.decode(encoding).encode("utf-8")
        except UnicodeError as error:
            raise InputError(
                f"begins as {encoding.upper()} text and cannot be read as such ({error})",
                where=name,
                fix="save it as UTF-8",
            ) from error
        notes.mention(f"is {encoding.upper()} text")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"is not UTF-8 text (byte 0x{data[error.start]:02x})",
            where=f"{name}:{line}",
            fix="save it as UTF-8 (in a spreadsheet: CSV UTF-8), so that no letter is guessed",
        ) from error
    return _without_invisible(data, notes)


def _without_invisible(data: bytes, notes: Notes) -> bytes:
    """Text without signs that nobody sees: they would make a class or a person of their own."""
    signs = [sign.encode() for sign in INVISIBLE]
    num = sum(data.count(sign) for sign in signs)
    if num:
        notes.mention(f"{counted(num, 'sign')} that nobody sees, such as zero-width spaces, are left out")
        for sign in signs:
            data = data.replace(sign, b"")
    return data


def _wide_without_mark(data: bytes) -> str | None:
    """UTF-16 that begins without its mark: every second byte of a header of ASCII letters is zero."""
    head = data[:64]
    if len(head) < 8 or len(head) % 2:
        return None
    even, odd = head[::2], head[1::2]
    if not any(even) and all(odd):
        return "utf-16-be"
    return "utf-16-le" if all(even) and not any(odd) else None
