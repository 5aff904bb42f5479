"""The picture of a DICOM file, grey values as its own tags mean them, by pydicom.

Stored value -> modality (rescale or lookup table) -> values of interest (lookup table, else window; of several the
first) -> inversion (MONOCHROME1: after the window, as the standard has it) -> padding black. DICOM PS3.3 C.7.6.3,
C.11.1, C.11.2. Without a window the stored bits are the range, and where all 16 are said to be stored, see
`grey_range`. Signed values without a window take their own smallest and largest as 0 and 1.

Legend: H height, B rows of a block, W width, C channels.
"""

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embeddings.decoding import dicom_file, grey_range, raster, stored_bits
from embeddings.decoding.grey import Grey, Wide, by_blocks
from embeddings.decoding.unusable import DecodeError

if TYPE_CHECKING:
    from pydicom import Dataset

Values = NDArray[Any]

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Which package decodes what, for who lacks it.
_DECODERS = (("JPEG 2000", "pylibjpeg pylibjpeg-openjpeg"), ("High-Throughput", "pylibjpeg pylibjpeg-openjpeg"))
_OTHER_DECODER = "python-gdcm"
_INTERLEAVED = (
    "JPEG",
    "High-Throughput",
)  # whatever PlanarConfiguration says, decoders give a pixel's colours together
_FAR_GREYER = 0.25  # of the colour of the declared order of planes; a secondary capture of a radiograph is nearly grey
_FAR = 1e12
_FEWEST_GREYS = 0.01  # of the pixels of a window that is used lie between black and white
_FEWEST_RANGE = 0.1  # of black to white that they take up: one of 16 bits over values of 12 shows them almost black
_MID_CHROMA_SHARE = 0.02  # of the range: chroma of a grey picture lies that close to its middle


def read(data: bytes, max_pixels: int) -> Grey | Wide:
    """Decode the first frame of a DICOM file.

    Raises:
        DecodeError: it has no pixels, too many, a broken picture, or one that no installed package decodes.
    """
    dataset = dicom_file.parse(data)
    if not any(name in dataset for name in _PIXELS):
        raise DecodeError(f"a DICOM file without pixels: {_kind(dataset)}")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return _picture(dataset, max_pixels)
        except (DecodeError, MemoryError):
            raise
        except Exception as error:
            raise DecodeError(f"its grey values cannot be worked out: {raster.short(error)}") from error


def _picture(dataset: "Dataset", max_pixels: int) -> Grey | Wide:
    notes = dicom_file.complete(dataset)
    raster.check_size(dataset.Columns, dataset.Rows, max_pixels)
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    if num_frames > 1:
        notes += (f"frame 1 of {num_frames}",)
    values, more = _with_planes(stored_values(dataset, all_bits=True), dataset)
    notes += more
    values, more = stored_bits.as_meant(values, dataset, lambda values_HW: _padding(values_HW, dataset))
    notes += more
    is_colour = values.ndim == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR"
    return (_colour if is_colour else _monochrome)(values, dataset, notes)


def stored_values(dataset: "Dataset", *, all_bits: bool = False) -> Values:
    """The first frame's values as they are stored, (H, W) or (H, W, C); colour as RGB.

    Args:
        dataset: With the pixels.
        all_bits: Also those that BitsStored leaves out.

    Raises:
        DecodeError: nothing that is installed decodes them.
    """
    from pydicom.pixels import pixel_array

    _with_12_bit_jpeg()
    if any(word in dataset.file_meta.TransferSyntaxUID.name for word in _INTERLEAVED):
        dataset.PlanarConfiguration = 0
    try:
        return np.asarray(pixel_array(dataset, index=0, correct_unused_bits=not all_bits))
    except MemoryError:
        raise
    except Exception as error:
        raise DecodeError(_why_not(error, dataset)) from error


def _with_planes(values: Values, dataset: "Dataset") -> tuple[Values, tuple[str, ...]]:
    """Colours in the other order of planes where that makes a grey picture of a gaudy one."""
    if values.ndim != 3 or values.shape[2] < 3 or dataset.file_meta.TransferSyntaxUID.is_compressed:
        return values, ()
    if str(dataset.PhotometricInterpretation) != "RGB":
        return values, ()
    height, width, num = values.shape
    if int(dataset.get("PlanarConfiguration") or 0) == 0:
        other = values.reshape(num, height, width).transpose(1, 2, 0)
    else:
        other = values.transpose(2, 0, 1).reshape(height, width, num)
    if not _colour_of(other) < _FAR_GREYER * _colour_of(values):
        return values, ()
    return np.ascontiguousarray(other), ("PlanarConfiguration names another order of its colours than they have",)


def _colour_of(values_HWC: Values) -> float:
    """How far the channels of a picture lie from each other."""
    return float(np.abs(np.diff(values_HWC[:, :, :3].astype(np.float32), axis=2)).mean())


@cache
def _with_12_bit_jpeg() -> None:
    from pydicom.pixels.decoders import JPEGExtended12BitDecoder

    JPEGExtended12BitDecoder.add_plugin("gdcm-12-bit", ("embeddings.decoding.gdcm_frames", "decode_frame"))


def _why_not(error: Exception, dataset: "Dataset") -> str:
    syntax = dataset.file_meta.TransferSyntaxUID
    text = str(error)
    if syntax.is_private or "is not supported" in text:
        return (
            f"no decoder knows how its pixels are written (transfer syntax {syntax}): export it again as Explicit VR "
            "Little Endian, or convert it with the archive's own software"
        )
    if "missing dependencies" in text or ("all available plugins" in text and not _has_gdcm()):
        packages = next((packages for word, packages in _DECODERS if word in syntax.name), _OTHER_DECODER)
        return f"no decoder for {syntax.name} is installed: pip install {packages}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = raster.without_content(" ".join(lines[1:] or lines))[:160] or type(error).__name__
    return f"its pixels ({syntax.name}) cannot be decoded: {shown}"


def _has_gdcm() -> bool:
    from pydicom.uid import JPEGExtended12Bit

    from embeddings.decoding import gdcm_frames

    return gdcm_frames.is_available(JPEGExtended12Bit)


def _kind(dataset: "Dataset") -> str:
    name = getattr(dataset.get("SOPClassUID"), "name", None)
    return str(name or dataset.get("Modality") or "of no known kind")


def _monochrome(values_HW: Values, dataset: "Dataset", notes: tuple[str, ...]) -> Grey | Wide:
    outside_HW = _padding(values_HW, dataset)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE"
    shown_HW, more = _windowed(values_HW, dataset, outside_HW)
    notes += more
    bits = int(dataset.BitsStored)
    if shown_HW is None and _is_plain(values_HW, dataset):
        turned = float(dataset.get("RescaleSlope") or 1) < 0
        return _whole_numbers(values_HW, bits, inverted != turned, outside_HW, notes, dataset)
    if shown_HW is None:
        from pydicom.pixels.processing import apply_modality_lut

        notes += ("no window: its own smallest and largest values are black and white",)
        modality_HW = apply_modality_lut(values_HW, dataset)
        far_below_HW = _far_below(modality_HW, outside_HW)
        if far_below_HW is not None:
            notes += ("its smallest value, far below all others, is taken for padding",)
            outside_HW = far_below_HW if outside_HW is None else outside_HW | far_below_HW
        shown_HW = _own_range(modality_HW, outside_HW)
    unit_HW = np.float32(1) - shown_HW if inverted else shown_HW
    if outside_HW is not None:
        unit_HW[outside_HW] = 0
    return Grey(Image.fromarray(unit_HW), bits, "DICOM", notes=notes)


def _padding(values_HW: Values, dataset: "Dataset") -> NDArray[np.bool_] | None:
    """Pixels that are said to be no part of the picture."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    outside_HW: NDArray[np.bool_] = (values_HW >= low) & (values_HW <= high)
    return outside_HW if outside_HW.any() and not outside_HW.all() else None


def _is_plain(values_HW: Values, dataset: "Dataset") -> bool:
    """Whole numbers from 0 of at most 16 bits, changed by nothing but a straight line."""
    return (
        values_HW.dtype.kind in "iu"
        and int(dataset.BitsAllocated) <= 16
        and int(values_HW.min()) >= 0
        and not dataset.get("ModalityLUTSequence")
    )


def _whole_numbers(
    values_HW: Values,
    bits: int,
    inverted: bool,
    outside_HW: NDArray[np.bool_] | None,
    notes: tuple[str, ...],
    dataset: "Dataset",
) -> Grey | Wide:
    if bits <= 8:
        white = grey_range.white_of_bits(bits)
        value_HW = np.clip(values_HW, 0, white).astype(np.uint8)
        if bits < 8:
            value_HW = np.rint(value_HW * np.float32(255 / white)).astype(np.uint8)
        value_HW = 255 - value_HW if inverted else value_HW
        if outside_HW is not None:
            value_HW[outside_HW] = 0
        return Grey(Image.fromarray(value_HW), bits, "DICOM", notes=notes)
    positive_bits = bits - int(dataset.PixelRepresentation)  # one of them is the sign
    said_bits = None if bits == dataset.BitsAllocated else positive_bits
    return Wide(values_HW.astype(np.uint16), positive_bits, "DICOM", said_bits, inverted, outside_HW, notes)


def _windowed(
    values_HW: Values, dataset: "Dataset", outside_HW: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    """The values of interest in [0, 1], by lookup table or window; None where there is neither, or no usable one."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    if not dataset.get("VOILUTSequence") and not _has_window(dataset):
        return None, ()
    try:
        if dataset.get("VOILUTSequence"):
            modality_HW = apply_modality_lut(values_HW, dataset)
            shown_HW = apply_voi(np.rint(modality_HW).astype(np.int64), dataset, index=0)
            item = dataset.VOILUTSequence[0]
            most = grey_range.bits_of(int(np.max(_table_values(item))), int(item.LUTDescriptor[2]))
            unit_HW = (shown_HW / np.float32(grey_range.white_of_bits(most))).astype(np.float32)
            notes = _first_of(len(dataset.VOILUTSequence), "lookup table", item.get("LUTExplanation"))
        else:
            unit_HW = _by_window(values_HW, dataset)
            names = _all(dataset.get("WindowCenterWidthExplanation"))
            notes = _first_of(len(_all(dataset.WindowCenter)), "window", names[0] if names else None)
    except Exception as error:  # noqa: BLE001 - a window that cannot be used must not cost the scan
        return None, (f"its window cannot be used: {raster.short(error)}",)
    inside = unit_HW if outside_HW is None else unit_HW[~outside_HW]
    if not np.mean((inside > 0) & (inside < 1)) >= _FEWEST_GREYS:  # not, for a NaN
        return None, ("its window shows nothing of it but black and white and is not used",)
    if inside.max() - inside.min() < _FEWEST_RANGE:
        return None, ("its window shows hardly any greys of it and is not used",)
    return unit_HW, notes


def _has_window(dataset: "Dataset") -> bool:
    return bool(_all(dataset.get("WindowCenter"))) and bool(_all(dataset.get("WindowWidth")))


def _by_window(values_HW: Values, dataset: "Dataset") -> NDArray[np.float32]:
    """Pydicom's window, brought to [0, 1]: what it makes of values far below and far above is black and white."""
    from pydicom.pixels.processing import apply_modality_lut, apply_windowing

    black, white = apply_windowing(np.array([-_FAR, _FAR]), dataset, index=0)

    def show(values_BW: Values) -> Values:
        shown_BW = apply_windowing(apply_modality_lut(values_BW, dataset), dataset, index=0)
        return np.asarray((shown_BW - black) / (white - black), np.float32)

    return by_blocks(show, values_HW)


def _table_values(item: "Dataset") -> Values:
    data = item.LUTData
    return np.frombuffer(data, np.uint16) if isinstance(data, bytes) else np.asarray(data)


def _first_of(number: int, what: str, name: object) -> tuple[str, ...]:
    if number < 2:
        return ()
    return (f"{what} 1 of {number}" + (f" ({name})" if name else ""),)


def _all(value: object) -> list[Any]:
    """The values of an element that may hold none, one or several."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float) else list(value)  # type: ignore[call-overload]


def _far_below(modality_HW: Values, outside_HW: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Pixels of the smallest value, where it is farther from all others than these are from each other; else None."""
    inside = modality_HW if outside_HW is None else modality_HW[~outside_HW]
    lowest = inside.min()
    others = inside[inside > lowest]
    if not others.size or not float(others.min()) - float(lowest) > float(others.max()) - float(others.min()) > 0:
        return None
    return np.asarray(modality_HW == lowest)


def _own_range(modality_HW: Values, outside_HW: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    inside = modality_HW if outside_HW is None else modality_HW[~outside_HW]
    if not np.isfinite(inside).all():
        raise DecodeError("it holds values that are not finite")
    low, high = float(inside.min()), float(inside.max())
    span = max(high - low, 1e-12)
    return by_blocks(lambda value_BW: np.clip((value_BW.astype(np.float64) - low) / span, 0, 1), modality_HW)


def _colour(values: Values, dataset: "Dataset", notes: tuple[str, ...]) -> Grey | Wide:
    """Luminance of a colour picture (ITU-R 601), as of any other file."""
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        values = apply_color_lut(values, dataset)
    if values.dtype == np.uint8:
        if _is_luminance_and_chroma(values, 255):
            return Grey(Image.fromarray(values[:, :, 0]), 8, "DICOM", notes=(*notes, "said to be RGB, and is YBR"))
        return Grey(Image.fromarray(values[:, :, :3]).convert("L"), 8, "DICOM", notes=notes)
    grey_HW = raster.luminance(values)
    if values.dtype == np.uint16:
        return Wide(np.rint(grey_HW).astype(np.uint16), 16, "DICOM", notes=notes)
    return Grey(raster.stretched(grey_HW), int(dataset.BitsStored), "DICOM", notes=notes)


def _is_luminance_and_chroma(values_HWC: Values, white: int) -> bool:
    """Whether a grey picture stands in brightness and two flat channels at the middle, whatever its tag says."""
    chroma_HW2 = values_HWC[:, :, 1:3].astype(np.float32) / white
    is_flat = bool((np.abs(chroma_HW2 - 0.5) <= _MID_CHROMA_SHARE).all())
    return is_flat and float(values_HWC[:, :, 0].std()) > _MID_CHROMA_SHARE * white
