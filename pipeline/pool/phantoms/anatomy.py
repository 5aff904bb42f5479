"""A schematic chest as smooth functions of the plane: where is lung, bone, heart and vessel.

Patient coordinates: x to the right of the picture, y down, both in half image sides, the spine
near x = 0. `U` is the distance from the midline towards one side, so both lungs share formulas.
Array suffixes: H rows, W columns. Grey values are parts of full scale, bright is dense.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from pipeline.pool.phantoms.scan import Opacity, Person

F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating[Any]]
Lines = tuple[tuple[float, float, float, float, float], ...]

SIDES = (-1, 1)  # patient's right (left in the picture), patient's left


@dataclass(frozen=True)
class Anatomy:
    """The measures of one chest, in patient coordinates unless the name says otherwise.

    `*_right` belongs to the patient's right side, which is the left of the picture.
    """

    midline: float
    lung_width: float
    apex: float
    base: float
    dome_right: float
    dome_left: float
    medial: float
    heart_width: float
    heart_height: float
    heart_y: float
    aorta: float
    trunk_width: float
    shoulder_y: float
    clavicle_y: float
    clavicle_tilt: float
    rib_spacing: float
    rib_phase: float
    rib_drop: float
    rib_contrast: float
    tissue: float
    aeration: float
    breast: float
    breast_y: float
    gas: float
    texture_seed: int

    def dome(self, side: int) -> float:
        """Return the y of the top of the diaphragm on a side."""
        return self.dome_right if side < 0 else self.dome_left


@lru_cache(maxsize=512)
def sample_anatomy(person: Person) -> Anatomy:
    """Draw a chest; the same person always has the same one.

    Args:
        person: sex and age shape the chest, the seed the rest.

    Returns:
        Measures for a PA film at mean inspiration.
    """
    return _draw(person)[0]


@lru_cache(maxsize=512)
def vessels(person: Person) -> Lines:
    """Grow the vessel trees out of both hila; only who draws the picture needs them, and they take the longest.

    Returns:
        Segments x0, y0, x1, y1, width; the same person always has the same ones.
    """
    rng = _draw(person)[1]
    lines: list[tuple[float, float, float, float, float]] = []
    for side in SIDES:
        for angle in (-1.15, -0.6, -0.1, 0.35, 0.75, 1.15):
            start = (0.15 + 0.02 * rng.standard_normal(), 0.12 * angle * rng.random())
            _grow_branch(rng, lines, side, start, angle + 0.15 * rng.standard_normal(), 0.028, 0)
    return tuple(lines)


def _draw(person: Person) -> tuple[Anatomy, np.random.Generator]:
    """The measures, and the generator as it stands once they are drawn."""
    rng = np.random.default_rng([person.seed, 1])
    female = person.sex == "F"
    old = (person.age_years - 55) / 40

    def about(mean: float, spread: float) -> float:
        return mean + spread * min(max(rng.standard_normal(), -2.0), 2.0)

    size = about(0.96 if female else 1.0, 0.035)
    lung_width = 0.76 * size + about(0, 0.015)
    dome_right = about(0.36, 0.045)
    anatomy = Anatomy(
        midline=about(0, 0.012),
        lung_width=lung_width,
        apex=about(-0.77, 0.03),
        base=about(0.62, 0.03),
        dome_right=dome_right,
        dome_left=dome_right + about(0.05, 0.02),
        medial=about(0.115, 0.01),
        heart_width=about(0.335 + 0.02 * old, 0.035),
        heart_height=about(0.265, 0.02),
        heart_y=about(0.20, 0.025),
        aorta=about(0.085 + 0.02 * old, 0.012),
        trunk_width=lung_width + about(0.12, 0.025),
        shoulder_y=about(-0.80, 0.04),
        clavicle_y=about(-0.52, 0.03),
        clavicle_tilt=about(0.17, 0.04),
        rib_spacing=about(0.148, 0.007) * size,
        rib_phase=float(rng.random()),
        rib_drop=about(0.24, 0.03),
        rib_contrast=about(0.085, 0.014),
        tissue=about(0.55, 0.025),
        aeration=about(0.40 + 0.015 * old, 0.025),
        breast=max(0.0, about(0.065, 0.025)) if female else 0.0,
        breast_y=about(0.30, 0.05),
        gas=max(0.0, about(0.12, 0.08)),
        texture_seed=int(rng.integers(2**31)),
    )
    return anatomy, rng


def breathe(anatomy: Anatomy, breath: float, view: str) -> Anatomy:
    """Return the chest as one film sees it: diaphragm moved, heart magnified when AP.

    Args:
        anatomy: the person's chest.
        breath: how far the diaphragm moves down.
        view: "PA" or "AP".
    """
    wide = 1.12 if view == "AP" else 1.0
    return replace(
        anatomy,
        base=anatomy.base + 0.6 * breath,
        dome_right=anatomy.dome_right + breath,
        dome_left=anatomy.dome_left + breath,
        heart_y=anatomy.heart_y + 0.5 * breath,
        heart_width=anatomy.heart_width * wide,
        clavicle_y=anatomy.clavicle_y - (0.06 if view == "AP" else 0.0),
    )


def wall(anatomy: Anatomy, y: F32) -> F32:
    """Return the distance of the lateral lung border from the midline at heights y."""
    t = np.clip((y - anatomy.apex) / (anatomy.base - anatomy.apex), 0, 1)
    return _f32(anatomy.lung_width * (1 - (1 - t) ** 2.8) ** 0.48)


def lung_HW(anatomy: Anatomy, side: int, u_HW: F32, y_HW: F32) -> F32:
    """Return how much of each point is lung of one side, 0..1, heart not yet taken out.

    Args:
        anatomy: the chest, after `breathe`.
        side: -1 or +1.
        u_HW: distance from the midline towards that side.
        y_HW: height.
    """
    dome, width = anatomy.dome(side), anatomy.lung_width
    below_apex_HW = y_HW - anatomy.apex
    medial_HW = anatomy.medial + 0.07 * np.exp(-np.maximum(below_apex_HW, 0) / 0.08)
    bend_HW = (np.abs(u_HW - 0.33) / (width - 0.33)) ** 2.6
    floor_HW = dome + (anatomy.base - dome) * np.minimum(bend_HW, 1.5)
    inside_HW = np.minimum(wall(anatomy, y_HW) - u_HW, u_HW - medial_HW)
    return _step(np.minimum(inside_HW, floor_HW - y_HW), 0.012)


def heart_HW(anatomy: Anatomy, x_HW: F32, y_HW: F32) -> F32:
    """Return how much of each point is heart or great vessel, 0..1."""
    x_HW = x_HW - anatomy.midline
    cos, sin = math.cos(0.45), math.sin(0.45)  # the axis points down and to the left side
    dx_HW, dy_HW = x_HW - 0.115, y_HW - anatomy.heart_y
    long_HW = (dx_HW * cos + dy_HW * sin) / anatomy.heart_width
    short_HW = (dy_HW * cos - dx_HW * sin) / anatomy.heart_height
    ventricle_HW = (1 - np.hypot(long_HW, short_HW)) * anatomy.heart_height
    atrium_HW = 0.17 - np.hypot(x_HW + 0.06, (y_HW - anatomy.heart_y + 0.02) * 0.8)
    arch_HW = anatomy.aorta - np.hypot(x_HW - 0.095, (y_HW + 0.27) * 0.9)
    trunk_HW = 0.10 - np.hypot(x_HW - 0.10, (y_HW + 0.08) * 0.6)
    whole_HW = np.maximum(np.maximum(ventricle_HW, atrium_HW), np.maximum(arch_HW, trunk_HW))
    return _step(whole_HW, 0.014)


def chest_HW(anatomy: Anatomy, x_HW: F32, y_HW: F32, vessels_HW: F32) -> tuple[F32, F32]:
    """Return the healthy chest and its aerated lung.

    Args:
        anatomy: the chest, after `breathe`.
        x_HW: patient x of every pixel.
        y_HW: patient y of every pixel.
        vessels_HW: the vessel tree as drawn, 0..1.

    Returns:
        Grey values about 0..1, and the part of air-filled lung in front of each pixel, 0..1.
    """
    heart = heart_HW(anatomy, x_HW, y_HW)
    centre_HW = x_HW - anatomy.midline
    air_HW = np.zeros_like(x_HW)
    bone_HW = np.zeros_like(x_HW)
    soft_HW = np.zeros_like(x_HW)
    for side in SIDES:
        u_HW = side * centre_HW
        air_HW += lung_HW(anatomy, side, u_HW, y_HW)
    width_HW = np.abs(centre_HW)
    bone_HW += _ribs_HW(anatomy, width_HW, y_HW) + _girdle_HW(anatomy, width_HW, y_HW)
    hilum_HW = np.exp(-(((width_HW - 0.17) / 0.07) ** 2) - ((y_HW - 0.0) / 0.13) ** 2)
    soft_HW += anatomy.breast * _breast_HW(anatomy, width_HW, y_HW)

    body_HW = _body_HW(anatomy, width_HW, y_HW)
    belly_HW = _step(y_HW - anatomy.dome_left - 0.03, 0.08) * 0.08
    disc_HW = np.cos(y_HW * 40 + 4 * y_HW**2)  # vertebrae grow taller downwards
    column_HW = np.exp(-((width_HW / 0.095) ** 2)) * (0.055 + 0.02 * disc_HW)
    windpipe_HW = np.exp(-(((centre_HW + 0.01) / 0.042) ** 4)) * _step(-0.20 - y_HW, 0.03)
    middle_HW = np.exp(-((width_HW / 0.15) ** 2)) * _step(y_HW + 0.85, 0.1)
    gas_HW = _gas_HW(anatomy, centre_HW, y_HW)

    open_HW = (air_HW * (1 - 0.86 * heart)).astype(np.float32)
    thinner_HW = 0.9 + 0.1 * np.clip(-y_HW * 1.5, -1, 1)  # less tissue in front of the upper lung
    grain_HW = _texture_HW(anatomy.texture_seed, x_HW, y_HW)
    grey_HW = anatomy.tissue + belly_HW + 0.05 * middle_HW + 0.13 * heart * (1 - 0.3 * air_HW)
    grey_HW -= open_HW * anatomy.aeration * thinner_HW
    grey_HW += open_HW * (0.15 * vessels_HW + 0.13 * hilum_HW + 0.022 * grain_HW)
    grey_HW += bone_HW + soft_HW + column_HW - 0.085 * windpipe_HW - gas_HW + 0.012 * grain_HW
    return _f32(0.035 + body_HW * grey_HW), open_HW


def _f32(values: npt.ArrayLike) -> F32:
    return np.asarray(values, dtype=np.float32)


def _step(distance_HW: Floats, softness: float) -> F32:
    """Return a soft 0-to-1 edge where the signed distance passes 0."""
    return _f32(0.5 + 0.5 * np.tanh(distance_HW / (2 * softness)))


def _body_HW(anatomy: Anatomy, width_HW: F32, y_HW: F32) -> F32:
    """Return the thickness of the body, 0 in air to 1: neck, shoulders, trunk."""
    ys = np.array([-1.6, -1.05, -0.92, anatomy.shoulder_y + 0.06, -0.55, -0.25, 0.1, 0.7, 1.6])
    trunk = anatomy.trunk_width
    half = np.array([0.30, 0.30, 0.40, 0.82, 1.06, 1.02, trunk + 0.07, trunk + 0.04, trunk + 0.10])
    edge_HW = np.interp(y_HW, ys, half).astype(np.float32)
    depth_HW = np.clip((edge_HW - width_HW) / 0.30, 0, 1)
    return _f32(np.sqrt(1 - (1 - depth_HW) ** 2) * 0.75 + 0.25 * _step(edge_HW - width_HW, 0.008))


def _ribs_HW(anatomy: Anatomy, width_HW: F32, y_HW: F32) -> F32:
    """Return the brightness of all ribs: level sets of two fields that fall and climb."""
    cage_HW = wall(anatomy, y_HW + 0.04) + 0.035
    reach_HW = width_HW / np.maximum(cage_HW, 0.15)
    inside_HW = _step(1.0 - reach_HW, 0.015) * _step(y_HW - anatomy.apex + 0.03, 0.02)
    fade_HW = _step(anatomy.base + 0.12 - y_HW, 0.05) * inside_HW
    outward_HW = np.minimum(reach_HW, 1.1)
    back_HW = (y_HW - anatomy.rib_drop * outward_HW**2.4) / anatomy.rib_spacing
    back_HW = np.cos(2 * np.pi * (back_HW + anatomy.rib_phase))
    front_HW = (y_HW - 0.26 * (1 - outward_HW) - 0.10) / (anatomy.rib_spacing * 1.12)
    front_HW = np.cos(2 * np.pi * (front_HW + 1.3 * anatomy.rib_phase))
    plate_HW = _step(back_HW - 0.15, 0.10)
    rim_HW = np.exp(-(((back_HW - 0.22) / 0.22) ** 2))
    near_HW = _step(reach_HW - 0.42, 0.06) * _step(0.42 - y_HW, 0.06)
    lateral_HW = 0.75 + 0.5 * outward_HW**4  # ribs seen edge on are denser
    behind_HW = _step(width_HW - 0.10, 0.03)
    back_HW = behind_HW * lateral_HW * (0.75 * plate_HW + 0.35 * rim_HW)
    ribs_HW = back_HW + 0.55 * near_HW * _step(front_HW - 0.2, 0.14)
    return _f32(anatomy.rib_contrast * fade_HW * ribs_HW)


def _girdle_HW(anatomy: Anatomy, width_HW: F32, y_HW: F32) -> F32:
    """Return the brightness of clavicles, shoulder blades and upper arm heads."""
    along_HW = np.clip((width_HW - 0.09) / 0.66, 0, 1)
    line_HW = anatomy.clavicle_y - anatomy.clavicle_tilt * along_HW**0.8
    line_HW = line_HW - 0.035 * np.sin(2 * np.pi * along_HW)
    across_HW = (y_HW - line_HW) / (0.034 - 0.008 * np.sin(np.pi * along_HW))
    ends_HW = _step(width_HW - 0.085, 0.012) * _step(0.80 - width_HW, 0.02)
    clavicle_HW = ends_HW * (0.085 * np.exp(-(across_HW**6)))
    clavicle_HW += ends_HW * 0.035 * np.exp(-(((np.abs(across_HW) - 0.85) / 0.22) ** 2))
    blade_HW = width_HW - (0.70 + 0.16 * (y_HW + 0.15))
    blade_HW = _step(blade_HW, 0.012) * _step(0.93 - width_HW, 0.04)
    blade_HW *= _step(y_HW + 0.60, 0.05) * _step(0.02 - y_HW - 0.9 * (width_HW - 0.72), 0.04)
    arm_HW = _step(0.15 - np.hypot(width_HW - 0.96, y_HW - anatomy.shoulder_y - 0.24), 0.015)
    return _f32(clavicle_HW + 0.055 * blade_HW + 0.11 * arm_HW)


def _breast_HW(anatomy: Anatomy, width_HW: F32, y_HW: F32) -> F32:
    """Return the breast shadow, 0..1: fades in from above, ends in a lower arc."""
    dx_HW = (width_HW - 0.42) / 0.33
    dy_HW = (y_HW - anatomy.breast_y) / 0.30
    return _f32(_step(1 - np.hypot(dx_HW, dy_HW), 0.06) * np.clip(0.5 + dy_HW, 0, 1))


def _gas_HW(anatomy: Anatomy, centre_HW: F32, y_HW: F32) -> F32:
    """Return the darkening by the stomach bubble under the left dome."""
    dx_HW = (centre_HW - 0.36) / 0.15
    dy_HW = (y_HW - anatomy.dome_left - 0.13) / 0.075
    return _f32(anatomy.gas * _step(1 - np.hypot(dx_HW, dy_HW), 0.12))


def _texture_HW(seed: int, x_HW: F32, y_HW: F32, num_cells: int = 48) -> F32:
    """Return smooth noise of mean 0 and spread about 1, fixed to the patient's coordinates."""
    cells = np.random.default_rng([seed, 2]).standard_normal((num_cells, num_cells))
    place = np.stack([y_HW, x_HW]) * np.float32(num_cells / 2.6) + np.float32(num_cells / 2)
    fine = map_coordinates(cells.astype(np.float32), place, order=1, mode="reflect")
    coarse = map_coordinates(cells.astype(np.float32), place * 0.3, order=1, mode="reflect")
    return _f32(0.7 * fine + 0.9 * coarse)


def _grow_branch(
    rng: np.random.Generator,
    lines: list[tuple[float, float, float, float, float]],
    side: int,
    start: tuple[float, float],
    angle: float,
    width: float,
    depth: int,
) -> None:
    """Append one branch and its children; `angle` is from the lateral direction, down positive."""
    if depth > 7 or start[0] > 0.76:
        return
    length = 0.085 * (0.9**depth) * (0.8 + 0.4 * rng.random())
    end = (start[0] + length * math.cos(angle), start[1] + length * math.sin(angle))
    lines.append((side * start[0], start[1], side * end[0], end[1], width))
    spread = 0.28 + 0.35 * rng.random()
    sign = 1 if rng.random() < 0.5 else -1
    turns = (0.7 * sign * spread, -1.2 * sign * spread)
    for turn, thinner in zip(turns, (0.80, 0.62), strict=True):
        if thinner > 0.7 or rng.random() < 0.6:
            _grow_branch(rng, lines, side, end, angle + turn, width * thinner, depth + 1)


def opacity_HW(anatomy: Anatomy, opacity: Opacity, x_HW: F32, y_HW: F32) -> F32:
    """Return the shape of a lesion before it is cut to the lung, 0..1.

    Args:
        anatomy: the chest, after `breathe`.
        opacity: the lesion.
        x_HW: patient x of every pixel.
        y_HW: patient y of every pixel.
    """
    u_HW = opacity.side * (x_HW - anatomy.midline)
    own_HW = _step(u_HW, 0.01)
    if opacity.finding == "effusion":
        to_wall_HW = np.maximum(wall(anatomy, y_HW) - u_HW, 0)
        surface_HW = opacity.y - opacity.radius_x * np.exp(-to_wall_HW / 0.09)
        return _f32(own_HW * _step(y_HW - surface_HW, opacity.radius_y))
    radius_HW = np.hypot((u_HW - opacity.x) / opacity.radius_x, (y_HW - opacity.y) / opacity.radius_y)
    if opacity.finding == "nodule":
        return _f32(own_HW * np.sqrt(np.clip(1.08 - radius_HW**2, 0, 1)))  # a ball is thickest midway
    ragged_HW = _texture_HW(opacity.seed, x_HW, y_HW, num_cells=24)
    patchy_HW = 0.85 + 0.22 * _texture_HW(opacity.seed + 1, x_HW, y_HW)
    edge_HW = _step(1 - radius_HW + 0.22 * ragged_HW, 0.13)
    return _f32(own_HW * edge_HW * np.clip(patchy_HW, 0.25, 1.3))
