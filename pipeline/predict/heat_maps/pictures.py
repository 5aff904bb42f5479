"""A heat map laid over its scan, as a picture that says what it is and what it is not.

Legend: S side of the square in pixels, H rows, W columns.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from pipeline.predict.heat_maps.occlusion import Floats, Heat

CAUTION = (
    "Caution: such maps localise findings worse than radiologists do (Saporta et al. 2022, Nature Machine "
    "Intelligence 4:867). Hot: covering this place lowers the model's logit more than it does in other scans. "
    "It outlines no disease."
)
NOT_DIAGNOSTIC = "Not for diagnostic use."
LONGEST_PX = 512
MIN_HEAT = 0.1  # of logits: below, no place matters more than it does in other scans, and nothing is coloured
_STRONGEST = 0.55  # of the colour over the scan
_TEXT_PX, _MARGIN_PX = 12, 6
_HOT, _WARM = np.array([255.0, 225.0, 60.0]), np.array([200.0, 30.0, 10.0])


def overlay(square_SS: Floats, heat_SS: Heat, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """The scan in its own proportions with the heat over it, RGB (H, W, 3); the longer side is `LONGEST_PX`.

    Args:
        square_SS: What the network sees, float32 in [0, 1].
        heat_SS: Map in logits; what is not above 0 is not coloured.
        width_px: Of the file's own picture.
        height_px: The same.
    """
    zoom = LONGEST_PX / max(width_px, height_px)
    size = max(1, round(width_px * zoom)), max(1, round(height_px * zoom))
    grey_HW, heat_HW = (
        np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        for values in (square_SS, heat_SS)
    )
    grey_HW3 = np.repeat(255.0 * np.clip(grey_HW, 0.0, 1.0)[:, :, None], 3, axis=2)
    top = float(heat_SS.max())
    if top < MIN_HEAT:
        return np.asarray(np.rint(grey_HW3), np.uint8)
    share_HW1 = np.clip(heat_HW / top, 0.0, 1.0)[:, :, None]
    colour_HW3 = share_HW1 * _HOT + (1.0 - share_HW1) * _WARM
    strength_HW1 = _STRONGEST * share_HW1
    return np.asarray(np.rint((1.0 - strength_HW1) * grey_HW3 + strength_HW1 * colour_HW3), np.uint8)


def title(finding: str, probability: float | None, heat_SS: Heat, is_outside: bool) -> str:
    """What the map is of, in one line."""
    top = float(heat_SS.max())
    probability_words = "no probability" if probability is None else f"probability {probability:.2f}"
    place = f"covering the hottest place costs {top:.1f} logits more than in scans of the run"
    place = place if top >= MIN_HEAT else "no place stands out"
    strange = "; OUTSIDE what the model knows" if is_outside else ""
    return f"{finding}: {probability_words}; {place}{strange}"


def with_words(picture_HW3: NDArray[np.uint8], heading: str) -> NDArray[np.uint8]:
    """The picture with its heading above it, and below it the caution that every map carries."""
    width_px = picture_HW3.shape[1]
    font = ImageFont.load_default(size=_TEXT_PX)
    above = _wrapped(heading, font, width_px - 2 * _MARGIN_PX)
    below = _wrapped(f"{NOT_DIAGNOSTIC} {CAUTION}", font, width_px - 2 * _MARGIN_PX)
    line_px = _TEXT_PX + 3
    top_px, bottom_px = (len(lines) * line_px + 2 * _MARGIN_PX for lines in (above, below))
    canvas = Image.new("RGB", (width_px, top_px + picture_HW3.shape[0] + bottom_px))
    canvas.paste(Image.fromarray(picture_HW3), (0, top_px))
    draw = ImageDraw.Draw(canvas)
    for lines, start_px in ((above, 0), (below, top_px + picture_HW3.shape[0])):
        for number, line in enumerate(lines):
            draw.text((_MARGIN_PX, start_px + _MARGIN_PX + number * line_px), line, fill=(255, 255, 255), font=font)
    return np.asarray(canvas)


def png(picture_HW3: NDArray[np.uint8], heading: str) -> bytes:
    """The picture as a PNG file that carries its words as text, too."""
    words = PngInfo()
    words.add_itxt("Title", heading)
    words.add_itxt("Warning", f"{NOT_DIAGNOSTIC} {CAUTION}")
    stream = io.BytesIO()
    Image.fromarray(picture_HW3).save(stream, "PNG", pnginfo=words)
    return stream.getvalue()


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> list[str]:
    """Lines of whole words that are no wider than so many pixels, but for a word that is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
