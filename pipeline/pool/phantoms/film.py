"""From a planned scan to its pixels: projection, exposure, the source's look, edits.

Array suffixes: H rows, W columns, L lines.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from pipeline.pool.phantoms.anatomy import (
    F32,
    SIDES,
    Anatomy,
    Floats,
    Lines,
    breathe,
    chest_HW,
    heart_HW,
    lung_HW,
    opacity_HW,
    sample_anatomy,
    vessels,
)

if TYPE_CHECKING:
    from pipeline.pool.phantoms.scan import Edit, PhantomScan, Pose
    from pipeline.pool.phantoms.spec import PhantomSpec, SourceLook

U8 = npt.NDArray[np.uint8]

REFERENCE_PX = 224  # lengths in pixels of a look or a pose are meant at this size
MARKER_GREY = 235
SUPERSAMPLING = 3


def render(scan: PhantomScan, spec: PhantomSpec) -> U8:
    """Return the picture of a scan; it depends on nothing but the two arguments.

    Args:
        scan: one entry of `plan(spec)`, or a changed copy of one.
        spec: gives the size and the looks of the sources.

    Returns:
        Grey values 0..255, shape (H, W), square. A scan with a `damage` renders as if whole.
    """
    size_px = scan.tamper.size_px or spec.size_px
    look = next(look for look in spec.looks if look.name == scan.source)
    anatomy = breathe(sample_anatomy(scan.person), scan.pose.breath, scan.true_view)
    x_HW, y_HW = _patient_grid(scan.pose, size_px)
    vessels_HW = _draw_vessels(vessels(scan.person), anatomy, scan.pose, size_px)
    grey_HW, open_HW = chest_HW(anatomy, x_HW, y_HW, vessels_HW)
    for opacity in scan.opacities:
        shape_HW = opacity_HW(anatomy, opacity, x_HW, y_HW)
        # A consolidation also hides what is behind it, so it fills the air it replaces.
        grey_HW += opacity.strength * shape_HW * open_HW
    picture_HW = _develop(grey_HW, scan, look, size_px)
    return _edited(picture_HW, scan.edit)


def lung_mask(scan: PhantomScan, spec: PhantomSpec) -> npt.NDArray[np.bool_]:
    """Return where the aerated lungs are in the picture of a scan, lesions included.

    Args:
        scan: as for `render`.
        spec: as for `render`.

    Returns:
        True inside the lungs and outside the heart, the shape of `render(scan, spec)`.
    """
    size_px = scan.tamper.size_px or spec.size_px
    anatomy = breathe(sample_anatomy(scan.person), scan.pose.breath, scan.true_view)
    x_HW, y_HW = _patient_grid(scan.pose, size_px)
    open_HW = -heart_HW(anatomy, x_HW, y_HW)
    for side in SIDES:
        open_HW += lung_HW(anatomy, side, side * (x_HW - anatomy.midline), y_HW)
    mask_HW = np.where(open_HW > 0.5, np.uint8(255), np.uint8(0))
    edit = scan.edit
    if edit is not None:
        mask_HW = _resized(mask_HW, edit)
    return np.asarray(mask_HW > 127)


def to_picture(pose: Pose, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the picture coordinates (-1..1) of points in patient coordinates; both arrays have one shape."""
    turn = np.deg2rad(pose.rotation_deg)
    cos, sin = np.cos(turn), np.sin(turn)
    return pose.scale * (x * cos - y * sin) + pose.shift_x, pose.scale * (x * sin + y * cos) + pose.shift_y


@lru_cache(maxsize=8)
def _grid(size_px: int) -> tuple[F32, F32]:
    centres = ((np.arange(size_px) + 0.5) * 2 / size_px - 1).astype(np.float32)
    y_HW, x_HW = np.meshgrid(centres, centres, indexing="ij")
    x_HW.setflags(write=False)
    y_HW.setflags(write=False)
    return x_HW, y_HW


def _patient_grid(pose: Pose, size_px: int) -> tuple[F32, F32]:
    """Return patient x and y of every pixel centre."""
    x_HW, y_HW = _grid(size_px)
    turn = np.deg2rad(pose.rotation_deg)
    cos, sin = np.float32(np.cos(turn) / pose.scale), np.float32(np.sin(turn) / pose.scale)
    x_HW, y_HW = x_HW - np.float32(pose.shift_x), y_HW - np.float32(pose.shift_y)
    return x_HW * cos + y_HW * sin, y_HW * cos - x_HW * sin


def _draw_vessels(lines: Lines, anatomy: Anatomy, pose: Pose, size_px: int) -> F32:
    """Return the vessel tree, 0..1, drawn large and shrunk for smooth edges."""
    side_px = size_px * SUPERSAMPLING
    canvas = Image.new("L", (side_px, side_px))
    draw = ImageDraw.Draw(canvas)
    half = side_px / 2
    lift = 0.35 * (anatomy.heart_y - 0.2)  # hila ride with the heart
    line_L5 = np.array(lines)
    right_L2, down_L2 = to_picture(pose, line_L5[:, [0, 2]] + anatomy.midline, line_L5[:, [1, 3]] + lift)
    ends_L22 = np.stack([right_L2 * half + half, down_L2 * half + half], axis=-1)
    for ends, (*_, width) in zip(ends_L22.reshape(-1, 4).tolist(), lines, strict=True):
        grey = int(min(255, 120 + 5200 * width))
        draw.line(ends, fill=grey, width=max(1, round(width * pose.scale * half)))
    small = np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32) / 255
    return np.asarray(gaussian_filter(small, 0.6 * size_px / REFERENCE_PX), dtype=np.float32)


def _develop(grey_HW: F32, scan: PhantomScan, look: SourceLook, size_px: int) -> U8:
    """Apply exposure, blur, the source's look, grain, frame and markers."""
    zoom = size_px / REFERENCE_PX
    grey_HW = gaussian_filter(grey_HW, scan.pose.blur_px * zoom)
    grey_HW = np.clip(scan.pose.gain * grey_HW, 0, 1) ** (scan.pose.gamma * look.gamma)
    grey_HW = np.clip((grey_HW - 0.5) * look.contrast + 0.5, 0, 1)
    rng = np.random.default_rng([scan.noise_seed, 3])
    grain_HW = rng.standard_normal(grey_HW.shape, dtype=np.float32)
    # Photon noise grows with the root of the count; the constant is the detector's own.
    spread_HW = look.noise / 255 * np.sqrt(0.25 + 0.75 * grey_HW)
    grey_HW = grey_HW + spread_HW * gaussian_filter(grain_HW, 0.45) * 1.4
    picture_HW = np.clip(np.rint(grey_HW * 255), 0, 255).astype(np.uint8)
    border_px = look.border_px if scan.tamper.border_px is None else scan.tamper.border_px
    frame_px = round(border_px * zoom)
    if frame_px:
        picture_HW[:frame_px], picture_HW[-frame_px:] = 0, 0
        picture_HW[:, :frame_px], picture_HW[:, -frame_px:] = 0, 0
    for text, corner in ((look.marker, (0.07, 0.07)), (scan.tamper.marker, (0.84, 0.07))):
        if text:
            left, top = round(corner[0] * size_px), round(corner[1] * size_px)
            glyphs_HW = _glyphs(text, max(8, round(14 * zoom)))[: size_px - top, : size_px - left]
            spot_HW = picture_HW[top : top + glyphs_HW.shape[0], left : left + glyphs_HW.shape[1]]
            np.maximum(spot_HW, glyphs_HW, out=spot_HW)
    return picture_HW


@lru_cache(maxsize=32)
def _glyphs(text: str, height_px: int) -> U8:
    """Return lead letters, bright on 0."""
    font = ImageFont.load_default(size=height_px)
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    canvas = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(canvas).text((-left, -top), text, fill=MARKER_GREY, font=font)
    return np.asarray(canvas, dtype=np.uint8)


def _edited(picture_HW: U8, edit: Edit | None) -> U8:
    if edit is None:
        return picture_HW
    bright_HW = np.clip(np.rint(picture_HW * np.float32(edit.gain)), 0, 255).astype(np.uint8)
    return _resized(bright_HW, edit)


def _resized(picture_HW: U8, edit: Edit) -> U8:
    """Crop and resize as a near duplicate."""
    height_px, width_px = picture_HW.shape
    cut_px = edit.crop * width_px
    size_px = max(1, round(width_px * edit.resize))
    box = (cut_px, cut_px, width_px - cut_px, height_px - cut_px)
    image = Image.fromarray(picture_HW).resize((size_px, size_px), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, dtype=np.uint8)
