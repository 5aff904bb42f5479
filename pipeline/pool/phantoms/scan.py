"""The records of a phantom pool: a person, one scan of that person, and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Damage = Literal["truncated-jpeg", "text-as-png", "empty-file"]


@dataclass(frozen=True)
class Person:
    """A simulated human; the truth that the manifest's columns may hide or get wrong.

    Attributes:
        number: identity within the pool, unlike the manifest's patient id never shared.
        seed: what the anatomy is drawn from.
        sex: "F" or "M".
        age_years: 18..95.
    """

    number: int
    seed: int
    sex: str
    age_years: int


@dataclass(frozen=True)
class Pose:
    """How a person stood before the detector and how the film was exposed.

    Lengths are in half image sides: the picture spans -1..1 in x (to the right) and y (down).

    Attributes:
        rotation_deg: in-plane rotation, clockwise positive.
        shift_x: movement to the right of the picture.
        shift_y: movement down.
        scale: magnification.
        breath: depth of inspiration, moves the diaphragm down by this much.
        gain: brightness factor.
        gamma: exponent on grey values in 0..1.
        blur_px: standard deviation of the blur at 224 px.
    """

    rotation_deg: float
    shift_x: float
    shift_y: float
    scale: float
    breath: float
    gain: float
    gamma: float
    blur_px: float


@dataclass(frozen=True)
class Opacity:
    """One bright lesion of a lung, in patient coordinates (units as in `Pose`).

    Attributes:
        finding: the finding it shows.
        side: -1 for the patient's right lung (left in the picture), +1 for the left lung.
        x: centre, as distance from the midline; unused by an effusion.
        y: centre; for an effusion the height of the fluid level at the mediastinum.
        radius_x: half width; for an effusion the height its meniscus climbs at the wall.
        radius_y: half height; for an effusion the half width of its blurred edge.
        strength: brightness added, in parts of full scale.
        seed: what the outline and texture are drawn from.
        box_px: where it is in the finished picture: left, top, right, bottom, in pixels.
    """

    finding: str
    side: int
    x: float
    y: float
    radius_x: float
    radius_y: float
    strength: float
    seed: int
    box_px: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Edit:
    """What turned a picture into its near duplicate.

    Attributes:
        resize: new side as a part of the old.
        crop: part of the side cut off at every edge.
        gain: brightness factor.
        jpeg_quality: 1..95 for a JPEG, None for a PNG.
    """

    resize: float
    crop: float
    gain: float
    jpeg_quality: int | None


@dataclass(frozen=True)
class Tamper:
    """What a planted fault changes in a picture, whatever is in the lungs.

    Attributes:
        size_px: side of the picture, None for the spec's.
        border_px: width of the black frame at 224 px, None for the source's.
        marker: letters burnt in above the left shoulder of the patient, "" for none.
    """

    size_px: int | None = None
    border_px: int | None = None
    marker: str = ""


@dataclass(frozen=True)
class PhantomScan:
    """One row of the manifest, with the truth that the manifest does not show.

    Attributes:
        image_path: relative to the manifest, with forward slashes.
        label: as the manifest says it; of independent findings a line of `finding_line`.
        patient_id: as the manifest says it, "" when missing.
        source: name of the hospital.
        age_years: as the manifest says it, None when missing.
        sex: as the manifest says it, "F", "M" or "" when missing.
        view: as the manifest says it, "PA", "AP" or "" when missing.
        official_split: "train", "test", or None in a pool without splits.
        duplicate_of: image path of the scan this one repeats, None for an original.
        true_label: the finding that the picture shows; of independent ones a line with all of them.
        true_view: the projection that was rendered.
        person: who it is.
        pose: how the picture was taken.
        noise_seed: what the grain is drawn from.
        opacities: the lesions in the picture, none when nothing is found.
        edit: how a near duplicate differs, None for originals and exact duplicates.
        tamper: what a fault changed.
        damage: how the file is broken, None for a readable one.
    """

    image_path: str
    label: str
    patient_id: str
    source: str
    age_years: int | None
    sex: str
    view: str
    official_split: str | None
    duplicate_of: str | None
    true_label: str
    true_view: str
    person: Person
    pose: Pose
    noise_seed: int
    opacities: tuple[Opacity, ...]
    edit: Edit | None = None
    tamper: Tamper = Tamper()
    damage: Damage | None = None


@dataclass(frozen=True)
class Patient:
    """A person with the part of the plan that all scans share.

    `finding` is a class, or of independent findings a combination (`combination.py`).
    """

    person: Person
    finding: str
    source: str
    view: str
    num_scans: int
    split: str | None
