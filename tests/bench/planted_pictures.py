"""Faults in a pool's pictures: copies across the split, what is no chest X-ray, and what gives the label away."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from embeddings.decode import open_grey
from embeddings.decoding.files import read_bytes
from tests.bench import augmentations, pools
from tests.bench.planted_rows import Plant, Row, ill, split_by_patient

Change = Callable[[Image.Image, np.random.Generator], Image.Image]
Saving = Callable[[Image.Image], tuple[str, bytes]]  # the file's ending and its content
NUM_COPIES = 10
MAX_PIXELS = 10**9


def opened(row: Row) -> Image.Image:
    """The picture in eight bits."""
    return open_grey(read_bytes(row["image_path"]), max_pixels=MAX_PIXELS).eight_bit()


def augmented(name: str, strength: object) -> Change:
    """One of the changes of `augmentations`, at a strength."""
    change = augmentations.ALL[name][1]
    return lambda image, rng: change(image, strength, rng)


def copied_across(change: Change | None) -> Plant:
    """Scans of training are in the test again, under other patients: byte for byte, or changed."""

    def plant(rows: list[Row], rng: np.random.Generator, folder: Path) -> list[Row]:
        rows = split_by_patient(rows)
        chosen = rng.choice([i for i, row in enumerate(rows) if row["official_split"] == "train"], NUM_COPIES, False)
        for number, i in enumerate(chosen):
            path = _copied(rows[i], folder / f"copy-{number}", change, rng)
            rows.append(rows[i] | {"image_path": path, "patient_id": f"99{number}", "official_split": "test"})
        return rows

    return plant


def copied(change: Change | None, *, share: float, other: str) -> Plant:
    """A part of the scans is there again under another patient, another label or (`other` empty) the same of all."""

    def plant(rows: list[Row], rng: np.random.Generator, folder: Path) -> list[Row]:
        names = sorted({row["label"] for row in rows})
        for number, i in enumerate(rng.choice(len(rows), round(share * len(rows)), replace=False)):
            path = _copied(rows[i], folder / f"copy-{number}", change, rng)
            wrong = {"patient_id": f"99{number}", "label": next(n for n in names if n != rows[i]["label"])}
            rows.append(rows[i] | {"image_path": path} | ({other: wrong[other]} if other else {}))
        return rows

    return plant


def _copied(row: Row, path: Path, change: Change | None, rng: np.random.Generator) -> str:
    if change is None:
        path = path.with_suffix(Path(row["image_path"]).suffix)
        shutil.copy(row["image_path"], path)
    else:
        path = path.with_suffix(".png")
        change(opened(row), rng).save(path)
    return str(path)


def repainted(num: int, paint: Change) -> Plant:
    """Pictures that are replaced by what is made of them."""

    def plant(rows: list[Row], rng: np.random.Generator, folder: Path) -> list[Row]:
        for i in rng.choice(len(rows), num, replace=False):
            path = folder / f"{i}.png"
            paint(opened(rows[i]).resize((256, 256)), rng).save(path)
            rows[i]["image_path"] = str(path)
        return rows

    return plant


def noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Every pixel by itself."""
    return Image.fromarray(rng.integers(0, 256, (image.height, image.width), dtype=np.uint8))


def blank(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Grey with next to nothing in it."""
    return Image.fromarray((120 + rng.normal(0, 2, (image.height, image.width))).astype(np.uint8))


def strip(_: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One row of pixels."""
    return Image.fromarray(rng.integers(0, 256, (1, 60_000), dtype=np.uint8))


def drawing(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Rectangles of one grey each."""
    picture = Image.new("L", image.size, int(rng.integers(0, 100)))
    for _ in range(4):
        left, top, width, height = (int(value) for value in rng.integers(10, 120, 4))
        ImageDraw.Draw(picture).rectangle((left, top, left + width, top + height), fill=int(rng.integers(100, 256)))
    return picture


def photograph(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Smooth patches of colour."""
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return coarse.resize(image.size, Image.Resampling.BICUBIC)


def inverted(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """White for black."""
    return ImageOps.invert(image)


def turned(degrees: int) -> Change:
    """Turned clockwise by quarters."""
    return lambda image, _: image.rotate(-degrees, expand=True)


def mirrored(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """Left for right."""
    return ImageOps.mirror(image)


def other_parts(*names: str) -> Plant:
    """Pictures of other parts of the body, by their names in the folder of DICOM files, among the scans."""

    def plant(rows: list[Row], rng: np.random.Generator, folder: Path) -> list[Row]:
        source = Path(os.environ["CXR_SSL_DATA"]) / "dicom" / "wg04"
        for name, i in zip(names, rng.choice(len(rows), len(names), replace=False), strict=True):
            image = opened({"image_path": str(source / name)})
            left, top = (int(rng.integers(0, side // 8)) for side in image.size)
            path = folder / f"{i}.png"
            image.crop((left, top, image.width - left, image.height - top)).resize((320, 320)).save(path)
            rows[i]["image_path"] = str(path)
        return rows

    return plant


def broken(rows: list[Row], rng: np.random.Generator, folder: Path) -> list[Row]:
    """Six files end in the middle."""
    for i in rng.choice(len(rows), 6, replace=False):
        data = Path(rows[i]["image_path"]).read_bytes()
        path = folder / f"{i}{Path(rows[i]['image_path']).suffix}"
        path.write_bytes(data[: len(data) // 3])
        rows[i]["image_path"] = str(path)
    return rows


def of_class(change: Change, share: float = 1.0) -> Plant:
    """A change to a part of the ill; all pictures are saved anew, alike."""

    def plant(rows: list[Row], rng: np.random.Generator, folder: Path) -> list[Row]:
        for i, row in enumerate(rows):
            image = opened(row)
            path = folder / f"{i}.png"
            (change(image, rng) if ill(row) and rng.random() < share else image).save(path)
            row["image_path"] = str(path)
        return rows

    return plant


def saved_anew(
    of_ill: Callable[[Image.Image], tuple[str, bytes]], of_others: Callable[..., tuple[str, bytes]]
) -> Plant:
    """The ill are saved in one way and the others in another, and no source is known."""

    def plant(rows: list[Row], _: np.random.Generator, folder: Path) -> list[Row]:
        for i, row in enumerate(rows):
            ending, data = (of_ill if ill(row) else of_others)(opened(row))
            path = folder / f"{i}.{ending}"
            path.write_bytes(data)
            row["image_path"] = str(path)
        return [{name: value for name, value in row.items() if name not in ("source", "population")} for row in rows]

    return plant


def jpeg(quality: int, side_px: int | None = None) -> Saving:
    """A JPEG file of a quality, of a square if its side is given."""

    def save(image: Image.Image) -> tuple[str, bytes]:
        data = io.BytesIO()
        (image if side_px is None else image.resize((side_px, side_px))).save(data, "JPEG", quality=quality)
        return "jpg", data.getvalue()

    return save


def png16(image: Image.Image) -> tuple[str, bytes]:
    """A PNG file of 16 bits."""
    data = io.BytesIO()
    Image.fromarray(np.asarray(image).astype(np.uint16) * 257).save(data, "PNG")
    return "png", data.getvalue()


def png8(image: Image.Image) -> tuple[str, bytes]:
    """A PNG file of 8 bits."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return "png", data.getvalue()


def marker(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A letter of lead at the upper right, never quite at one place."""
    side = min(image.size)
    x, y = image.width - int(side * (0.12 + 0.04 * rng.random())), int(side * (0.03 + 0.04 * rng.random()))
    image = image.copy()
    ImageDraw.Draw(image).text((x, y), "L", fill=250, font_size=0.13 * side, stroke_width=max(1, side // 90))
    return image


def electrodes(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Discs on both shoulders and at the lower left, with their wires."""
    image, side = image.copy(), min(image.size)
    draw, radius = ImageDraw.Draw(image), 0.025 * side
    for across, down in ((0.12, 0.14), (0.88, 0.14), (0.10, 0.86)):
        x, y = (
            size * place + side * rng.normal(0, 0.015) for size, place in zip(image.size, (across, down), strict=True)
        )
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=245)
        draw.line((x, y, x + 0.1 * side * (across - 0.5), image.height), fill=200, width=max(1, side // 100))
    return image


def tube(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A line from the neck down the middle."""
    image, side = image.copy(), min(image.size)
    middle = image.width * (0.5 + rng.normal(0, 0.01))
    points = [(middle + 0.01 * side * rng.normal(), image.height * down) for down in (0.0, 0.12, 0.25, 0.4)]
    ImageDraw.Draw(image).line(points, fill=240, width=max(2, side // 45))
    return image


def table_edge(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A bright rail at the lower edge, below the lungs."""
    image = image.copy()
    height = image.height * (0.04 + 0.02 * rng.random())
    ImageDraw.Draw(image).rectangle((0, image.height - height, image.width, image.height), fill=210)
    return image


def twenty_five(rows: list[Row], rng: np.random.Generator, folder: Path) -> list[Row]:
    """25 patients of either class, and the files of the two classes differ."""
    seen, chosen = set(), []
    for i in rng.permutation(len(rows)):
        row = rows[i]
        if row["patient_id"] not in seen and sum(ill(kept) == ill(row) for kept in chosen) < 25:
            seen.add(row["patient_id"])
            chosen.append(row)
    return saved_anew(jpeg(75, 224), jpeg(92, 200))(chosen, rng, folder)


def adults_and_children(rows: list[Row], rng: np.random.Generator, _: Path) -> list[Row]:
    """Healthy children beside adults with COVID; nothing says where they come from."""
    adults = [row for row in pools.rows("covid3") if row["label"] == "covid"]
    children = [row for row in rows if row["label"] == "normal"]
    chosen = [adults[i] for i in rng.choice(len(adults), min(len(adults), len(children)), replace=False)]
    return [{name: row[name] for name in ("image_path", "label", "patient_id")} for row in (*children, *chosen)]
