"""What kind of file its first bytes are of, where none is read; never a byte of it, for that may name somebody."""

import struct

_KINDS = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"GIF8": "a GIF",
    b"BM": "a BMP picture",
    b"P2": "a PGM picture",
    b"P5": "a PGM picture",
    b"P6": "a PPM picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"NRRD": "an NRRD volume",
    b"version https://git-lfs": "a pointer of Git LFS, whose file was not downloaded",
    b"<": "a web page or XML",
    b"{": "text in JSON",
}
_BRANDS_OF_HEIF = (b"heic", b"heix", b"mif1", b"msf1", b"avif")
_HEADERS_OF_NIFTI = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")
_LOSSLESS, _FIRST_OF_LS = (0xC3, 0xC7, 0xCB, 0xCF), 0xF7
_WITHOUT_LENGTH = (0x01, 0xFF, *range(0xD0, 0xDA))
_NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # of the markers from C0 to CF
_BITS, _COMPRESSION = 258, 259


def kind(data: bytes) -> str:
    """In words, to stand behind `its first bytes are`."""
    words = _of_file(data)
    return words if words.startswith("text") else f"those of {words}"


def _of_file(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WebP picture"
    if data[4:8] == b"ftyp" and data[8:12] in _BRANDS_OF_HEIF:
        return "a HEIC or AVIF picture"
    if data[:4] in _HEADERS_OF_NIFTI and data[344:347] in (b"n+1", b"ni1"):
        return "a NIfTI volume"
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "a broken PNG"
    for head, words in _KINDS.items():
        if data.startswith(head):
            return words
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in data[:16]):
        return "text"
    return "no picture"


def _jpeg(data: bytes) -> str:
    """By the marker that begins its frame."""
    place = 2
    while place + 5 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _FIRST_OF_LS:
            return "a JPEG-LS picture, which is read in DICOM alone"
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            lossless = "a lossless JPEG" if marker in _LOSSLESS else "a JPEG"
            return f"{lossless} with {data[place + 4]} bits a value, which is read in DICOM alone"
        place += 1 if marker == 0xFF else 2
        if marker not in _WITHOUT_LENGTH:
            place += struct.unpack_from(">H", data, place)[0]
    return "a broken JPEG"


def _tiff(data: bytes) -> str:
    """By the tags of its first page."""
    order = "<" if data.startswith(b"II") else ">"
    tags = {}
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (num_tags,) = struct.unpack_from(f"{order}H", data, start)
        for place in range(start + 2, start + 2 + 12 * num_tags, 12):
            tag, _, count, value = struct.unpack_from(f"{order}HHIH", data, place)
            if count == 1:
                tags[tag] = value
    except struct.error:
        return "a broken TIFF"
    packed = f", packed in way {tags[_COMPRESSION]}" if tags.get(_COMPRESSION, 1) != 1 else ""
    return f"a TIFF with {tags.get(_BITS, 'several')} bits a value{packed}, which is not read"
