"""Lines of text in a picture, found without reading them: letters are small, of one height, and stand in a row.

What is brighter, or darker, than all around it within a few pixels is ink (a white or black top-hat). Connected ink
of a letter's size is a letter; neighbours of like height at the same level are a line, and a line has about as many
strokes as so many letters have. One or two letters alone, as the L and R of a film, are none. The picture is looked
at in several sizes, because the top-hat finds strokes of one width.

Legend: H rows, W columns, L letters (or runs of touching ones): top, bottom, left, right.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
Boxes = NDArray[np.int64]

MIN_LETTERS = 5  # of a line; a side and a projection (`L`, `AP`) are shorter
_MIN_CONTRAST = 31  # of 255, of ink against what is around it
_WINDOW = 7  # px: strokes are narrower
_HEIGHTS_PX = (4, 26)  # of a letter, in one of the sizes the picture is looked at
_MAX_SIDE_PX, _SMALL_SIDE_PX, _LEAST_SIDE_PX = 1536, 640, 100  # shrunk above, looked at doubled below, not below
_MIN_RUNS, _MAX_RUNS = 3, 3000  # of a line; more connected spots of ink are noise
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.int8)
# Of a line, as shares of the usual height of its letters.
_MAX_GAP, _MAX_OVERLAP, _MAX_OFFSET, _MAX_LINE_HEIGHT, _LETTER_WIDTH = 1.5, 0.3, 0.3, 1.7, 0.7
_MAX_HEIGHT_RATIO = 1.7  # of neighbours: a capital beside a small letter
_MAX_RUN_WIDTH = 10.0  # heights
_INK_SHARE = (0.1, 0.7)  # of the box around a line
_MIN_STROKES_A_HEIGHT, _MIN_STROKES = 0.25, 4.0  # that a row through the line crosses


def has_text(picture: Image.Image) -> bool:
    """Whether a line of `MIN_LETTERS` letters or more is burnt into a picture of mode "L"."""
    shrink = -(-max(picture.size) // _MAX_SIDE_PX)
    small = picture.reduce(shrink) if shrink > 1 else picture
    if max(small.size) <= _SMALL_SIDE_PX:
        small = small.resize((2 * small.width, 2 * small.height), Image.Resampling.BICUBIC)
    while min(small.size) >= _LEAST_SIDE_PX:
        if _has_lines(np.asarray(small)):
            return True
        small = small.reduce(2)
    return False


def _has_lines(grey_HW: Bytes) -> bool:
    """Whether the picture has a line in this size, in bright or in dark ink."""
    darkest_HW, brightest_HW = _around(grey_HW, np.minimum), _around(grey_HW, np.maximum)
    bright_HW = grey_HW - np.minimum(_around(darkest_HW, np.maximum), grey_HW)
    dark_HW = np.maximum(_around(brightest_HW, np.minimum), grey_HW) - grey_HW
    return any(_is_written(ink_HW >= _MIN_CONTRAST) for ink_HW in (bright_HW, dark_HW))


def _around(grey_HW: Bytes, extreme: np.ufunc) -> Bytes:
    """The smallest or largest value of the square of `_WINDOW` pixels around each one, along each axis in turn."""
    half = _WINDOW // 2
    for is_turned in (False, True):
        out_HW = np.empty_like(grey_HW)
        lines, out = (grey_HW.T, out_HW.T) if is_turned else (grey_HW, out_HW)
        two = extreme(lines[:-1], lines[1:])
        four = extreme(two[:-2], two[2:])
        extreme(four[:-3], four[3:], out=out[half:-half])
        # At the rim there is less around a pixel: the first four lines for the outermost, then one more for each.
        out[:half] = extreme.accumulate(lines[: 2 * half])[half:]
        out[: -half - 1 : -1] = extreme.accumulate(lines[: -2 * half - 1 : -1])[half:]
        grey_HW = out_HW
    return grey_HW


def _is_written(ink_HW: NDArray[np.bool_]) -> bool:
    """Whether some of the ink is a line of text."""
    from scipy import ndimage, sparse
    from scipy.sparse import csgraph

    run_HW, num_runs = ndimage.label(ink_HW, structure=_EIGHT_NEIGHBOURS)
    letters = _letters(run_HW, ink_HW, num_runs)
    if not _MIN_RUNS <= len(letters) <= _MAX_RUNS:
        return False
    run_L, box_L4 = letters[:, 0], letters[:, 1:]
    # Sparse: of a dense matrix SciPy first looks for missing values.
    line_L = csgraph.connected_components(sparse.csr_array(_neighbours(box_L4)), directed=False)[1]
    is_long_K = np.bincount(line_L, weights=box_L4[:, 3] - box_L4[:, 2]) >= MIN_LETTERS
    return any(
        _reads_as_text(run_HW, run_L[line_L == line], box_L4[line_L == line])
        for line in np.flatnonzero(is_long_K & (np.bincount(line_L) >= _MIN_RUNS))
    )


def _letters(run_HW: NDArray[Any], ink_HW: NDArray[np.bool_], num_runs: int) -> Boxes:
    """Runs of ink of a letter's size: number and box of each, (L, 5)."""
    from scipy import ndimage

    area_R = np.bincount(run_HW[ink_HW], minlength=num_runs + 1)
    low, high = _HEIGHTS_PX
    kept, places = [], ndimage.find_objects(run_HW)
    for number in (np.flatnonzero(area_R[1:] >= low) + 1).tolist():  # not the thousands of specks of a grainy film
        rows, columns = places[number - 1]
        height, width = rows.stop - rows.start, columns.stop - columns.start
        is_ink = area_R[number] >= max(low, _INK_SHARE[0] * height * width)
        if low <= height <= high and width <= _MAX_RUN_WIDTH * height and is_ink:
            kept.append((number, rows.start, rows.stop, columns.start, columns.stop))
    return np.array(kept, np.int64).reshape(-1, 5)


def _neighbours(box_L4: Boxes) -> NDArray[np.bool_]:
    """Which letters stand beside each other in a row, (L, L)."""
    top_L, bottom_L, left_L, right_L = box_L4.T
    height_L, middle_L = bottom_L - top_L, (top_L + bottom_L) / 2
    taller_LL = np.maximum.outer(height_L, height_L)
    gap_LL = np.maximum.outer(left_L, left_L) - np.minimum.outer(right_L, right_L)
    return np.asarray(
        (np.abs(np.subtract.outer(middle_L, middle_L)) <= _MAX_OFFSET * taller_LL)
        & (taller_LL <= _MAX_HEIGHT_RATIO * np.minimum.outer(height_L, height_L))
        & (gap_LL <= _MAX_GAP * taller_LL)
        & (gap_LL >= -_MAX_OVERLAP * taller_LL)
    )


def _reads_as_text(run_HW: NDArray[Any], run_L: NDArray[np.int64], box_L4: Boxes) -> bool:
    """Whether the letters of a row are as many, as even and as full of strokes as those of a line of text."""
    height_px = float(np.median(box_L4[:, 1] - box_L4[:, 0]))
    top, left = box_L4[:, 0].min(), box_L4[:, 2].min()
    bottom, right = box_L4[:, 1].max(), box_L4[:, 3].max()
    width_L = box_L4[:, 3] - box_L4[:, 2]
    num_letters = np.maximum(1, np.round(width_L / (_LETTER_WIDTH * height_px))).sum()
    if num_letters < MIN_LETTERS or bottom - top > _MAX_LINE_HEIGHT * height_px:
        return False
    ink_HW = np.isin(run_HW[top:bottom, left:right], run_L)
    strokes = (ink_HW[:, 1:] & ~ink_HW[:, :-1]).sum(axis=1) + ink_HW[:, 0]
    tenth = (bottom - top) // 10
    num_strokes = float(strokes[tenth : bottom - top - tenth].mean())
    enough = max(_MIN_STROKES, _MIN_STROKES_A_HEIGHT * (right - left) / height_px)
    return bool(_INK_SHARE[0] < ink_HW.mean() < _INK_SHARE[1] and num_strokes >= enough)
