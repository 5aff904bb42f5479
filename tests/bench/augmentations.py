"""Changes that people make to scans before they split them, each at three strengths, and three of them together.

A change takes a grey picture, its strength and a generator (which side, which way), and gives a grey picture.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

Picture = Image.Image
Rng = np.random.Generator
Change = Callable[[Picture, Any, Rng], Picture]

_SIDES = ("left", "top", "right", "bottom")


def turned(image: Picture, degrees: float, rng: Rng) -> Picture:
    """Turned one way or the other inside its frame, the corners black."""
    return image.rotate(degrees * rng.choice([-1, 1]), Image.Resampling.BILINEAR)


def mirrored(image: Picture, _: Any, rng: Rng) -> Picture:
    """Left for right."""
    return ImageOps.mirror(image)


def quarter_turned(image: Picture, degrees: int, rng: Rng) -> Picture:
    """Turned by 90, 180 or 270 degrees, the whole of it kept."""
    return image.rotate(degrees, expand=True)


def shifted(image: Picture, share: float, rng: Rng) -> Picture:
    """Moved both ways by a share of the side, black where nothing was."""
    x, y = (share * side * rng.choice([-1, 1]) for side in image.size)
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y))


def cropped(image: Picture, share: float, rng: Rng) -> Picture:
    """Without a share of every side, back at its size."""
    x, y = share * image.width, share * image.height
    return image.resize(image.size, Image.Resampling.BILINEAR, (x, y, image.width - x, image.height - y))


def cropped_on_one_side(image: Picture, share: float, rng: Rng) -> Picture:
    """Without a share of one side."""
    cut = dict.fromkeys(_SIDES, 0)
    side = str(rng.choice(_SIDES))
    cut[side] = round(share * (image.width if side in ("left", "right") else image.height))
    return image.crop((cut["left"], cut["top"], image.width - cut["right"], image.height - cut["bottom"]))


def padded(image: Picture, share: float, rng: Rng) -> Picture:
    """A black or grey rim of a share on every side."""
    rim = (round(share * image.width), round(share * image.height))
    grey = int(rng.choice([0, 128]))
    wide = Image.new("L", (image.width + 2 * rim[0], image.height + 2 * rim[1]), grey)
    wide.paste(image, rim)
    return wide


def through_few_pixels(image: Picture, side_px: int, rng: Rng) -> Picture:
    """Shrunk to a small square and brought back to its size."""
    return image.resize((side_px, side_px), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)


def captioned(image: Picture, num: int, rng: Rng) -> Picture:
    """Words on black bars, each about half as wide as the picture."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for line in rng.choice(["PORTABLE AP", "SUPINE 14:32", "ICU BED 7", "FOR TEACHING"], num, replace=False):
        width, height = round(0.48 * image.width), round(0.095 * image.height)
        x, y = (int(rng.integers(0, side - size)) for side, size in zip(image.size, (width, height), strict=True))
        draw.rectangle([x, y, x + width, y + height], fill=0)
        draw.text((x + 3, y + 2), str(line), fill=255, font_size=0.8 * height)
    return image


def recompressed(image: Picture, quality: int, rng: Rng) -> Picture:
    """JPEG of a quality."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("L")


def blurred(image: Picture, sigma_px: float, rng: Rng) -> Picture:
    """Gaussian blur."""
    return image.filter(ImageFilter.GaussianBlur(sigma_px))


def noisy(image: Picture, sigma: float, rng: Rng) -> Picture:
    """Gaussian noise of a standard deviation in grey values of 255."""
    pixel_HW = np.asarray(image, np.float32) + sigma * rng.standard_normal((image.height, image.width), np.float32)
    return Image.fromarray(np.clip(np.rint(pixel_HW), 0, 255).astype(np.uint8))


def equalised(image: Picture, tiles: int, rng: Rng) -> Picture:
    """Histogram equalisation of the whole (1 tile), or of tiles, mixed half and half with the picture."""
    if tiles == 1:
        return ImageOps.equalize(image)
    pixel_HW = np.asarray(image).copy()
    for rows in np.array_split(np.arange(image.height), tiles):
        for columns in np.array_split(np.arange(image.width), tiles):
            tile = np.ix_(rows, columns)
            flat = np.asarray(ImageOps.equalize(Image.fromarray(pixel_HW[tile])))
            pixel_HW[tile] = flat // 2 + pixel_HW[tile] // 2
    return Image.fromarray(pixel_HW)


def gamma(image: Picture, power: float, rng: Rng) -> Picture:
    """Greys to a power."""
    return image.point([round(255 * (value / 255) ** power) for value in range(256)])


# Change to its three strengths, mild to strong, and what it does.
AUGMENTATIONS: dict[str, tuple[tuple[Any, ...], Change]] = {
    "turned by degrees": ((1, 3, 5), turned),
    "mirrored": ((1,), mirrored),
    "turned by quarters, degrees": ((90, 180, 270), quarter_turned),
    "shifted both ways by a share": ((0.01, 0.03, 0.05), shifted),
    "cropped on every side by a share": ((0.05, 0.08, 0.10), cropped),
    "cropped on one side by a share": ((0.03, 0.06, 0.10), cropped_on_one_side),
    "padded on every side by a share": ((0.03, 0.06, 0.10), padded),
    "resized through pixels": ((128, 96, 64), through_few_pixels),
    "captioned, lines": ((1, 2, 3), captioned),
    "JPEG of quality": ((60, 30, 10), recompressed),
    "blurred, px": ((0.7, 1.4, 2.0), blurred),
    "noise, greys": ((5, 10, 20), noisy),
    "equalised, tiles a side": ((1, 2, 4), equalised),
    "gamma": ((0.5, 1.4, 2.0), gamma),
}


def three_together(image: Picture, strength: int, rng: Rng) -> Picture:
    """Three different changes one after another, each at its strength (0 mild, 1 medium, 2 strong)."""
    for name in rng.choice(list(AUGMENTATIONS), 3, replace=False):
        strengths, change = AUGMENTATIONS[str(name)]
        image = change(image, strengths[min(strength, len(strengths) - 1)], rng)
    return image


TOGETHER = "three of these together, strength"
ALL: dict[str, tuple[tuple[Any, ...], Change]] = AUGMENTATIONS | {TOGETHER: ((0, 1, 2), three_together)}
