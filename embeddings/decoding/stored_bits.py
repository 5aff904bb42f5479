"""Which bits of a stored value count, where the tags of a DICOM file and its values disagree.

BitsStored 8 over values of 12 bits, a HighBit at the top of the container, PixelRepresentation 1 over values without a
sign: read as the tags say, such values wrap around, and neighbours that are nearly alike lie far apart. How neighbours
differ tells which reading is right.

Legend: H height, W width.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embeddings.decoding import grey_range

if TYPE_CHECKING:
    from pydicom import Dataset

Values = NDArray[Any]

_MAX_ROWS = 256  # of a picture that are looked at
_FAR_SMOOTHER = (
    0.75  # of the declared reading's steps: where values wrap around at a sign, they are about twice as long
)
_SHORT_STEP = 0.75  # of the lowest bit above: an overlay in the upper bits changes a value by all of it
_UNSIGNED = {1: np.uint8, 2: np.uint16}


def as_meant(
    all_HW: Values, dataset: "Dataset", padding: Callable[[Values], NDArray[np.bool_] | None]
) -> tuple[Values, tuple[str, ...]]:
    """The values with the bits that count; the tags of the data set are changed where another reading is the right one.

    Args:
        all_HW: With all bits that are allocated, (H, W); colour, (H, W, C), is read as the tags say.
        dataset: With BitsAllocated, BitsStored and PixelRepresentation.
        padding: Pixels of read values that are no part of the picture; None: there are none.
    """
    values_HW = _with_bits_stored(all_HW, dataset)
    plain = _UNSIGNED.get(values_HW.dtype.itemsize)
    if values_HW.ndim != 2 or plain is None or values_HW.dtype.kind not in "iu":
        return values_HW, ()
    outside_HW = padding(values_HW)
    notes: tuple[str, ...] = ()
    bits = int(dataset.BitsStored)
    if bits < dataset.BitsAllocated and _go_on_above(values_HW, all_HW, bits, outside_HW):
        values_HW = all_HW
        notes += (f"its values need more bits than BitsStored, {bits}, says: all are read",)
        bits = int(dataset.BitsAllocated)
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
    if values_HW.dtype.kind == "i" and values_HW.min() < 0:
        for width in sorted({bits, _width(values_HW)}):  # a codestream of fewer bits has its sign there
            without_HW = values_HW.view(plain) & plain(grey_range.white_of_bits(width))
            counts_HW = _counting(without_HW, width, outside_HW)
            if _steps(without_HW, counts_HW).sum() < _FAR_SMOOTHER * _steps(values_HW, counts_HW).sum():
                dataset.PixelRepresentation = 0
                return without_HW, (*notes, "PixelRepresentation says that values have a sign, and they have none")
    return values_HW, notes


def _with_bits_stored(values: Values, dataset: "Dataset") -> Values:
    """Values without the bits above BitsStored, and with the sign that the highest of those left says."""
    above = int(dataset.BitsAllocated) - int(dataset.BitsStored)
    if above <= 0 or values.dtype.kind not in "iu":
        return values
    return np.asarray((values << above) >> above, values.dtype)


def _width(values_HW: Values) -> int:
    """The bits that signed values need."""
    return max(int(-(values_HW.min() + 1)).bit_length(), int(values_HW.max()).bit_length()) + 1


def _go_on_above(values_HW: Values, all_HW: Values, bits: int, outside_HW: NDArray[np.bool_] | None) -> bool:
    """Whether the bits above BitsStored go on counting, and are neither an overlay nor left over."""
    if not (all_HW != values_HW).any():
        return False
    above_HW = _some_rows(all_HW) >> bits
    changes_HW = above_HW[:, 1:] != above_HW[:, :-1]
    counts_HW = np.ones(above_HW.shape, np.bool_) if outside_HW is None else ~_some_rows(outside_HW)
    steps = _steps(all_HW, counts_HW, changes_HW)
    return bool(steps.size) and float(np.median(steps)) < _SHORT_STEP * (1 << bits)


def _counting(value_HW: Values, bits: int, outside_HW: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Pixels whose steps count: neither padding nor black or white of a reading, which meet at sharp edges."""
    half = 1 << (bits - 1)
    counts_HW: NDArray[np.bool_] = np.isin(_some_rows(value_HW), [0, half - 1, half, 2 * half - 1], invert=True)
    return counts_HW if outside_HW is None else counts_HW & ~_some_rows(outside_HW)


def _steps(
    value_HW: Values, counts_HW: NDArray[np.bool_], asked_HW: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """How far neighbours in a row are from each other, of those pairs that count and are asked for."""
    is_pair_HW = counts_HW[:, 1:] & counts_HW[:, :-1]
    is_pair_HW = is_pair_HW if asked_HW is None else is_pair_HW & asked_HW
    return np.abs(np.diff(_some_rows(value_HW).astype(np.float32), axis=1))[is_pair_HW]


def _some_rows(value_HW: Values) -> Values:
    return value_HW[:: max(1, len(value_HW) // _MAX_ROWS)]
