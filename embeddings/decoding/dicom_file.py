"""DICOM files, by pydicom: whether bytes are one, and its tags with what is missing filled in.

Real archives hold files without the preamble, without a transfer syntax, without BitsStored or HighBit (a twentieth of
one large public set). What can be told from the rest is filled in, and said in a note.
"""

import io
import logging
import re
import struct
import warnings
from typing import TYPE_CHECKING

from embeddings.decoding import raster
from embeddings.decoding.unusable import DecodeError

if TYPE_CHECKING:
    from pydicom import Dataset

_PREAMBLE = 128
_GROUPS = (0x0002, 0x0008)  # a data set without a preamble begins with one of these
_MAGIC = b"DICM"
# Where a file of several frames keeps what others have at the top: PS3.3 C.7.6.16.
_GROUPS_OF_FRAMES = {
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
}
_DECIMALS = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
# It logs every odd value of every file; what matters of them becomes a note or a reason.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
INSTALL = "pip install 'cxr-ssl[dicom]'"


def is_dicom(data: bytes) -> bool:
    """Whether bytes are a DICOM file, with or without its preamble."""
    if has_preamble(data) or data.startswith(_MAGIC):
        return True
    if len(data) < 16:
        return False
    little, big = struct.unpack("<H", data[:2])[0], struct.unpack(">H", data[:2])[0]
    has_kind = data[4:6].isalpha() and data[4:6].isupper()
    is_implicit = little in _GROUPS and struct.unpack("<I", data[4:8])[0] <= min(len(data), 2**16)
    return (has_kind and (little in _GROUPS or big in _GROUPS)) or (is_implicit and data[1] == 0 and data[3] == 0)


def has_preamble(data: bytes) -> bool:
    """Whether bytes begin as the standard asks of a DICOM file."""
    return data[_PREAMBLE : _PREAMBLE + 4] == _MAGIC


def parse(data: bytes, *, with_pixels: bool = True) -> "Dataset":
    """The tags of a DICOM file.

    Args:
        data: The file's bytes.
        with_pixels: False: the pixels are left out, which is quicker.

    Raises:
        DecodeError: it is broken before its pixels, or pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise DecodeError(f"a DICOM file, and pydicom is not installed: {INSTALL}") from None
    data = bytes(_PREAMBLE) + data if data.startswith(_MAGIC) else data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd values, which are looked at one by one
        try:
            dataset = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=not with_pixels)
            _ = [dataset.get(name) for name in ("Modality", "SOPClassUID", "Rows", "PhotometricInterpretation")]
        except Exception as error:
            why = f"{type(error).__name__}: {raster.short(error)}"
            raise DecodeError(f"its DICOM tags cannot be read: {why}") from error
    if not len(dataset):
        raise DecodeError("a DICOM file without any tag: it is cut off")
    return dataset


def complete(dataset: "Dataset") -> tuple[str, ...]:
    """Fill in what the pixels need and the file lacks; returns a note for each.

    Raises:
        DecodeError: the size of the picture is missing.
    """
    import pydicom

    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise DecodeError("a DICOM file that does not say how large its picture is (Rows, Columns)")
    _with_groups_of_first_frame(dataset)
    notes = [*_with_points(dataset), *_with_known_picture(dataset), *_with_whole_rescale(dataset)]
    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, is_little = dataset.original_encoding
        uid = pydicom.uid
        plain = uid.ExplicitVRLittleEndian if is_little else uid.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if is_implicit else plain
    samples = dataset.get("SamplesPerPixel") or (3 if str(dataset.get("PhotometricInterpretation")) == "RGB" else 1)
    bits = dataset.get("BitsAllocated") or _bits_by_length(dataset, samples)
    declared = dataset.get("BitsStored")
    stored = int(declared if declared and declared <= bits else bits)
    usual = {
        "SamplesPerPixel": samples,
        "BitsAllocated": bits,
        "BitsStored": stored,
        "HighBit": stored - 1,
        "PixelRepresentation": 0,
        "PhotometricInterpretation": "MONOCHROME2" if samples == 1 else "RGB",
    }
    for name, value in usual.items():
        if dataset.get(name) in (None, ""):
            setattr(dataset, name, value)
            notes.append(f"{name} is missing: {value} is assumed")
    if dataset.BitsStored > dataset.BitsAllocated:
        notes.append(f"BitsStored {dataset.BitsStored} is more than BitsAllocated: {bits} is assumed")
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
    if "VOILUTFunction" in dataset and not dataset.VOILUTFunction:
        del dataset.VOILUTFunction  # the standard's own is meant
    if samples > 1 and dataset.get("PlanarConfiguration") is None:
        dataset.PlanarConfiguration = 0
    return tuple(notes)


def _with_groups_of_first_frame(dataset: "Dataset") -> None:
    """What the groups of a file of several frames say of the first one, written where other files have it."""
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), None)
    first = next(iter(dataset.get("PerFrameFunctionalGroupsSequence") or ()), None)
    for sequence, names in _GROUPS_OF_FRAMES.items():
        for group in (first, shared):
            item = None if group is None else next(iter(group.get(sequence) or ()), None)
            if item is not None and not any(name in dataset for name in names):
                for name in names:
                    if name in item:
                        dataset[name] = item[name]


def _with_points(dataset: "Dataset") -> list[str]:
    """Decimal numbers that some software writes with a comma, with the point that the standard asks for."""
    notes = []
    for name in _DECIMALS:
        try:
            written = str(dataset.get_item(name).value.decode("ascii")) if name in dataset else ""
        except (AttributeError, UnicodeDecodeError):  # read already, or no text
            written = str(dataset.get(name, ""))
        if re.fullmatch(r"\s*[-+]?\d+,\d+\s*", written.strip("\0")):
            setattr(dataset, name, written.strip(" \0").replace(",", "."))
            notes.append(f"{name} is written with a comma, which is read as a point")
    return notes


def _with_known_picture(dataset: "Dataset") -> list[str]:
    """Another word for a grey picture than the standard's is read as that.

    Raises:
        DecodeError: the word is none for a kind of picture.
    """
    from pydicom.pixels.common import PhotometricInterpretation

    word = str(dataset.get("PhotometricInterpretation") or "").strip().upper()
    if not word or word in {str(kind.value) for kind in PhotometricInterpretation}:
        return []
    if not word.startswith(("MONO", "GRAY", "GREY")):
        raise DecodeError("PhotometricInterpretation (0028,0004) names no kind of picture that DICOM knows")
    dataset.PhotometricInterpretation = "MONOCHROME1" if word.endswith("1") else "MONOCHROME2"
    return [f"PhotometricInterpretation is no word of DICOM's: {dataset.PhotometricInterpretation} is assumed"]


def _with_whole_rescale(dataset: "Dataset") -> list[str]:
    """Of slope and intercept the one that is missing, or a slope of 0, filled in: else both would be skipped."""
    plain = {"RescaleSlope": 1, "RescaleIntercept": 0}
    missing = [name for name in plain if dataset.get(name) in (None, "")]
    notes = []
    if len(missing) == 1:
        setattr(dataset, missing[0], plain[missing[0]])
        notes.append(f"{missing[0]} is missing: {plain[missing[0]]} is assumed")
    if dataset.get("RescaleSlope") == 0:
        dataset.RescaleSlope = 1
        notes.append("RescaleSlope is 0: 1 is assumed")
    return notes


def _bits_by_length(dataset: "Dataset", samples: int) -> int:
    """8 or 16, by how many bytes there are a value; 16 where they are compressed."""
    num_values = dataset.Rows * dataset.Columns * samples * int(dataset.get("NumberOfFrames") or 1)
    num_bytes = len(dataset.get("PixelData") or b"")
    return 8 if num_values <= num_bytes < 2 * num_values else 16
