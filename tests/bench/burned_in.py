"""Text burnt into pictures: real scans that are said to have some, looked at by eye; planted captions that are seen."""

import csv
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from statsmodels.stats.proportion import proportion_confint

from pipeline.pool.burned_in.text_lines import has_text
from tests.bench import pools, tables

NUM_REAL = 1000
TEXTS = (
    *("MUELLER, ANNA", "Nguyen Van An", "SMITH^JOHN", "Kowalska Ewa", "12.03.1956 F", "Okafor, Chidi", "ID 4471902"),
    *("Garcia Lopez M", "WEISS HANS", "O'Brien, Sean"),
)
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf")
CONTRASTS = (0.25, 0.4, 0.7, 1.0)
# Longer side of the picture (None: as it is, 224 to 390 px) and sizes of the font in px.
SIZES = {None: (8, 10, 12, 16, 24, 32), 1024: (12, 20, 40, 64), 2048: (20, 28, 48, 96)}


def main(data: Path, given: Namespace) -> None:
    """Write `results/burned-in.md`; a seed is one caption for each size and contrast, and markers alone."""
    paths = real(data)
    rng = np.random.default_rng(0)
    rows = [_on_real(name, _drawn(some, rng)) for name, some in paths.items()]
    everything = [path for name, some in paths.items() if name != "covid3, of papers" for path in some]
    rows += _planted(everything, given.seeds)
    tables.write(
        "burned-in",
        "Text burnt into pictures",
        f"python -m tests.bench burned_in --seeds {given.seeds}",
        ("scans", "number", "said to have text", "95 %", "ms a scan"),
        rows,
        f"Real scans: up to {NUM_REAL} of a set, drawn with seed 0; most that are named do have text (times of day, "
        "PORTABLE, UPRIGHT, figure captions), see docs/how-to/privacy.md. Captions: names, dates of birth and numbers "
        f"in {len(FONTS)} fonts at the upper or lower edge, a third of them in a black box, of these contrasts with "
        f"what is below: {', '.join(map(str, CONTRASTS))} of the range; {given.seeds} seeds. Scans that are named "
        "before anything is planted are left out of the planted rows. Markers: L, R, AP or PA alone, large.",
    )


def real(data: Path) -> dict[str, list[Path]]:
    """The scans of each set."""
    found: dict[str, list[Path]] = {"kermany": [], "covid3, of NIH": [], "covid3, of papers": []}
    for name in ("kermany", "covid3"):
        manifest = Path(pools.uri(data, name))
        with manifest.open(encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                of_nih = "covid3, of NIH" if row["source"] == pools.NIH else "covid3, of papers"
                found[name if name == "kermany" else of_nih].append(manifest.parent / row["image_path"])
    return found


def _drawn(paths: list[Path], rng: np.random.Generator) -> list[Path]:
    return [paths[i] for i in np.sort(rng.choice(len(paths), min(NUM_REAL, len(paths)), replace=False))]


def _on_real(name: str, paths: list[Path]) -> tuple[str, ...]:
    pictures = [_opened(path) for path in paths]
    start = time.process_time()
    named = [has_text(picture) for picture in pictures]
    return _row(f"real: {name}", named, (time.process_time() - start) / len(named))


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("L")


def _row(name: str, named: list[bool], seconds: float) -> tuple[str, ...]:
    low, high = proportion_confint(sum(named), len(named), method="wilson")
    share = f"{sum(named)} ({sum(named) / len(named):.1%})"
    return name, str(len(named)), share, f"{low:.1%} to {high:.1%}", f"{1000 * seconds:.0f}"


def _planted(paths: list[Path], seeds: int) -> Iterator[tuple[str, ...]]:
    """A row a size of picture and font, and one of markers alone."""
    named: dict[str, list[bool]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        for side_px, sizes in SIZES.items():
            for size_px in sizes:
                for contrast in CONTRASTS:
                    picture = _without_text(paths, side_px, rng)
                    where = "as they are" if side_px is None else f"of {side_px} px"
                    planted = {
                        f"captions of {size_px} px in scans {where}": caption(
                            picture, str(rng.choice(TEXTS)), size_px, contrast, rng
                        ),
                        "markers alone": caption(
                            picture, str(rng.choice(["L", "R", "AP", "PA"])), 2 * size_px, contrast, rng
                        ),
                    }
                    for name, written in planted.items():
                        start = time.process_time()
                        named[name].append(has_text(written))
                        seconds[name] += time.process_time() - start
    for name in sorted(named, key=lambda name: name == "markers alone"):
        yield _row(name, named[name], seconds[name] / len(named[name]))


def _without_text(paths: list[Path], side_px: int | None, rng: np.random.Generator) -> Image.Image:
    while True:
        picture = _opened(paths[int(rng.integers(len(paths)))])
        if not has_text(picture):
            break
    if side_px is None:
        return picture
    size = (side_px, round(side_px * picture.height / picture.width))
    grown_HW = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray(np.clip(grown_HW + rng.normal(0, 2.5, grown_HW.shape), 0, 255).astype(np.uint8))


def caption(picture: Image.Image, text: str, size_px: int, contrast: float, rng: np.random.Generator) -> Image.Image:
    """A copy of a picture with a line of text at its upper or lower edge.

    Args:
        picture: Mode "L".
        text: What is written; a line that is wider than the picture is cut.
        size_px: Of the font.
        contrast: Of the text with what is below it, share of the range.
        rng: Draws font, place and whether there is a box.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(folder / str(rng.choice(FONTS))), size_px)
    left, top, right, bottom = font.getbbox(text)
    width, height = round(right - left), round(bottom - top)
    x = int(rng.integers(2, max(3, picture.width - width - 2)))
    y = int(rng.choice([2 + rng.integers(8), picture.height - height - 3 - rng.integers(8)]))
    copy = picture.copy()
    if rng.random() < 1 / 3:
        ImageDraw.Draw(copy).rectangle((x - 2, y - 2, x + width + 2, y + height + 2), fill=0)
    below = float(np.median(np.asarray(copy)[y : y + height, x : x + width]))
    grey = round(np.clip(below + 255 * contrast * (1 if below < 128 else -1), 0, 255))
    ImageDraw.Draw(copy).text((x - left, y - top), text, fill=grey, font=font)
    return copy
