"""Who is in a pool and what each picture shows: quotas instead of luck, and no pixels.

Classes, sources, sexes, ages, views and splits are dealt out by quota within strata. A pool
without faults is therefore free of chance confounding that an audit would rightly report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pipeline.pool.phantoms import combination
from pipeline.pool.phantoms import faults as planted
from pipeline.pool.phantoms.anatomy import SIDES, breathe, sample_anatomy, wall
from pipeline.pool.phantoms.film import to_picture
from pipeline.pool.phantoms.scan import Edit, Opacity, Patient, Person, PhantomScan, Pose
from pipeline.pool.phantoms.spec import FINDINGS, TOO_FEW_PATIENTS, PhantomSpec

NORMAL = FINDINGS[0]
AP_SHARE = 0.2
TEST_SHARE = 0.3
RECOVERY_PROB = 0.15  # a follow-up scan shows the finding gone

# Stages of the child seeds, so that one stage's draws never move another's.
_DEAL, _SCAN, _COPY, _ORDER, _NOTED = range(5)


def plan(spec: PhantomSpec) -> list[PhantomScan]:
    """Lay out a pool, originals and copies, in manifest order.

    Args:
        spec: what to lay out; equal specs give equal plans.

    Returns:
        One entry per row of the manifest, image paths unique.
    """
    patients = _deal_patients(spec)
    scans = [_plan_scan(spec, patient, visit) for patient in patients for visit in range(patient.num_scans)]
    scans = planted.plant_in_originals(spec, scans)
    rng = np.random.default_rng([spec.seed, _COPY])
    scans = scans + _copies(spec, scans, rng)
    scans = planted.plant_in_copies(spec, scans)
    return _named(spec, scans)


def deal(shares: Mapping[str, float], count: int, least: int = 0) -> list[str]:
    """Return `count` names in proportion to the shares (largest remainder).

    Args:
        shares: name to its part, 0..1.
        count: how many places to deal.
        least: places that every name with a share gets, if there are enough for all.
    """
    names = [name for name, share in shares.items() if share > 0]
    exact = np.array([shares[name] for name in names]) * count
    places = np.floor(exact).astype(int)
    for index in np.argsort(-(exact - places), kind="stable")[: count - int(places.sum())]:
        places[index] += 1
    while least * len(names) <= count and places.min() < least:
        places[int(np.argmax(places))] -= 1
        places[int(np.argmin(places))] += 1
    return [name for name, num in zip(names, places, strict=True) for _ in range(num)]


def _deal_patients(spec: PhantomSpec) -> list[Patient]:
    """Deal class and source first, then everything else within each class and source."""
    rng = np.random.default_rng([spec.seed, _DEAL])
    num_patients = spec.num_patients
    if "too-few-cases" in spec.faults:
        num_patients = min(num_patients, TOO_FEW_PATIENTS)
    shares = combination.shares(spec) if spec.independent else planted.skew_prevalences(spec)
    findings = Counter(deal(shares, num_patients, least=1))
    strata: Counter[tuple[str, str]] = Counter()
    for finding, count in findings.items():
        sources = deal(planted.source_shares(spec, finding), count)
        strata.update((finding, source) for source in sources)

    patients: list[Patient] = []
    for (finding, source), count in strata.items():
        counts = deal({str(k): v for k, v in spec.scans_per_patient.items()}, count)
        columns = [
            rng.permutation(deal({"F": 0.48, "M": 0.52}, count)),
            rng.permutation(deal({"PA": 1 - AP_SHARE, "AP": AP_SHARE}, count)),
            rng.permutation(counts),
            rng.permutation(deal({"train": 1 - TEST_SHARE, "test": TEST_SHARE}, count)),
            rng.permutation(_ages(count)),
        ]
        for sex, view, num_scans, split, age in zip(*columns, strict=True):
            number = len(patients)
            person = Person(number, int(rng.integers(2**31)), str(sex), int(age))
            patient = Patient(person, finding, source, str(view), int(num_scans), None)
            if spec.has_split:
                patient = replace(patient, split=str(split))
            patients.append(planted.skew_patient(spec, patient, rng))
    return patients


def _ages(count: int) -> list[int]:
    """Return evenly spread quantiles of a skewed adult age distribution, 18..95."""
    level = (np.arange(count) + 0.5) / count
    return [int(age) for age in np.rint(18 + 77 * (0.35 * level + 0.65 * level**0.75) * 0.98)]


def _plan_scan(spec: PhantomSpec, patient: Patient, visit: int) -> PhantomScan:
    """Plan one visit: its pose is new, its anatomy the person's own."""
    person = patient.person
    rng = np.random.default_rng([spec.seed, _SCAN, person.number, visit])
    pose = _pose(rng)
    if spec.independent:
        shown = combination.evolve(spec, patient.finding, visit, RECOVERY_PROB, rng)
        truth = combination.line(spec, shown)
        noted_rng = np.random.default_rng([spec.seed, _NOTED, person.number, visit])
        label = combination.noted(spec, truth, patient.split, noted_rng)
    else:
        label, severity = _evolve(spec, patient, visit, rng)
        shown, truth = {label: severity}, label
    opacities = []
    for finding, severity in shown.items():
        # Lesions are the patient's, not the visit's: a follow-up sees the same place again.
        lesion_rng = np.random.default_rng([person.seed, 4, FINDINGS.index(finding)])
        opacities += _lesions(person, finding, severity * spec.severity, pose, patient.view, lesion_rng)
    return PhantomScan(
        image_path=f"original-{person.number:06d}-{visit}",  # `_named` gives the final one
        label=label,
        patient_id=f"P{person.number:05d}",
        source=patient.source,
        age_years=person.age_years,
        sex=person.sex,
        view=patient.view,
        official_split=patient.split,
        duplicate_of=None,
        true_label=truth,
        true_view=patient.view,
        person=person,
        pose=pose,
        noise_seed=int(rng.integers(2**31)),
        opacities=tuple(located(opacity, person, pose, patient.view, spec.size_px) for opacity in opacities),
    )


def _evolve(spec: PhantomSpec, patient: Patient, visit: int, rng: np.random.Generator) -> tuple[str, float]:
    """Return what a visit shows and how strongly, relative to the first visit."""
    chance, severity = rng.random(), float(rng.uniform(0.8, 1.2))
    if visit == 0:
        return patient.finding, 1.0
    prevalences = planted.skew_prevalences(spec)
    frozen = planted.frozen_findings(spec, patient.source)
    if patient.finding in frozen or not prevalences.get(NORMAL):
        return patient.finding, severity
    if patient.finding != NORMAL:
        return (NORMAL, 1.0) if chance < RECOVERY_PROB else (patient.finding, severity)
    open_findings = {k: v for k, v in prevalences.items() if k not in frozen and k != NORMAL and v}
    # Falling ill balances recovering, so prevalences stay put over the visits.
    sick = sum(open_findings.values())
    onset_prob = min(0.5, RECOVERY_PROB * sick / prevalences[NORMAL])
    if not open_findings or chance >= onset_prob:
        return NORMAL, 1.0
    names = list(open_findings)
    weights = np.array([open_findings[name] for name in names]) / sick
    return names[int(rng.choice(len(names), p=weights))], severity


def _pose(rng: np.random.Generator) -> Pose:
    def about(mean: float, spread: float) -> float:
        return mean + spread * min(max(rng.standard_normal(), -2.2), 2.2)

    return Pose(
        rotation_deg=about(0, 2.2),
        shift_x=about(0, 0.025),
        shift_y=about(0.02, 0.025),
        scale=about(1.0, 0.03),
        breath=about(0, 0.03),
        gain=about(1.0, 0.06),
        gamma=about(1.0, 0.09),
        blur_px=about(0.75, 0.12),
    )


def _lesions(
    person: Person, finding: str, severity: float, pose: Pose, view: str, rng: np.random.Generator
) -> list[Opacity]:
    """Return the lesions of one finding; sizes are parts of half the picture's side."""
    if finding == NORMAL:
        return []
    sides = list(rng.permutation(SIDES))
    if finding == "effusion":
        num_sides = 2 if rng.random() < 0.2 else 1
        # The level is above this film's own diaphragm, or a deep breath would hide the fluid.
        chest = breathe(sample_anatomy(person), pose.breath, view)
        lesions = []
        for side in sides[:num_sides]:
            depth = severity * rng.uniform(-0.03, 0.20)
            rise, edge = severity * rng.uniform(0.10, 0.22), rng.uniform(0.012, 0.03)
            strength = min(0.45, severity * rng.uniform(0.18, 0.34))
            level = chest.dome(int(side)) - depth
            lesions.append(Opacity(finding, int(side), 0.0, level, rise, edge, strength, int(rng.integers(2**31))))
        return lesions
    num_lesions = 1 if finding == "nodule" else int(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))
    return [_patch(person, finding, severity, int(sides[i % 2]), rng) for i in range(num_lesions)]


def _patch(person: Person, finding: str, severity: float, side: int, rng: np.random.Generator) -> Opacity:
    """Return one consolidation or nodule inside a lung and clear of the heart."""
    chest = sample_anatomy(person)
    depth = rng.uniform(0.28, 0.88)
    y = chest.apex + depth * (chest.dome(side) - chest.apex)
    inner = chest.medial + (0.30 if side > 0 and y > chest.heart_y - 0.25 else 0.08)
    outer = float(wall(chest, np.array([y], dtype=np.float32))[0]) - 0.08
    x = inner + rng.uniform(0.1, 0.9) * max(outer - inner, 0.05)
    if finding == "nodule":
        radius = rng.uniform(10, 18) / 224  # 10..18 px across at 224 px, where half a side is 112
        return Opacity(
            finding, side, x, y, radius, radius, min(0.45, severity * rng.uniform(0.20, 0.34)), int(rng.integers(2**31))
        )
    radius_x = severity * rng.uniform(0.13, 0.26)
    radius_y = severity * rng.uniform(0.13, 0.26)
    strength = min(0.45, severity * rng.uniform(0.15, 0.32))
    return Opacity(finding, side, x, y, radius_x, radius_y, strength, int(rng.integers(2**31)))


def located(opacity: Opacity, person: Person, pose: Pose, view: str, size_px: int) -> Opacity:
    """Return the lesion with its box in a picture of the given side."""
    chest = breathe(sample_anatomy(person), pose.breath, view)
    if opacity.finding == "effusion":
        bottom, top = chest.base, opacity.y - opacity.radius_x
        inner, outer = chest.medial, chest.lung_width
    else:
        inner, outer = opacity.x - opacity.radius_x, opacity.x + opacity.radius_x
        top, bottom = opacity.y - opacity.radius_y, opacity.y + opacity.radius_y
    u_K, y_K = np.array([inner, inner, outer, outer]), np.array([top, bottom, top, bottom])  # K corners
    edges_2K = (np.array(to_picture(pose, opacity.side * u_K + chest.midline, y_K)) + 1) * size_px / 2
    left, upper = np.clip(edges_2K.min(axis=1), 0, size_px)
    right, lower = np.clip(edges_2K.max(axis=1), 0, size_px)
    return replace(opacity, box_px=(float(left), float(upper), float(right), float(lower)))


def _copies(spec: PhantomSpec, scans: list[PhantomScan], rng: np.random.Generator) -> list[PhantomScan]:
    """Return exact and near duplicates of different readable originals."""
    num_exact, num_near = planted.num_copies(spec, len(scans))
    usable = [scan for scan in scans if scan.damage is None]
    chosen = rng.permutation(len(usable))[: num_exact + num_near]
    copies = []
    for rank, index in enumerate(chosen):
        original = usable[int(index)]
        copy = replace(original, image_path=f"copy-{rank:06d}", duplicate_of=original.image_path)
        copies.append(copy if rank < num_exact else _near_copy(copy, spec, rng))
    return copies


def _near_copy(scan: PhantomScan, spec: PhantomSpec, rng: np.random.Generator) -> PhantomScan:
    """Return the scan as another archive would have stored it."""
    kind = rng.choice(["re-encoded", "resized", "brightened", "cropped"])
    edit = Edit(
        resize=float(rng.choice([0.8, 0.9, 1.25])) if kind == "resized" else 1.0,
        crop=float(rng.uniform(0.01, 0.03)) if kind == "cropped" else 0.0,
        gain=float(rng.uniform(1.05, 1.12)) if kind == "brightened" else 1.0,
        jpeg_quality=int(rng.integers(60, 86)) if kind == "re-encoded" or rng.random() < 0.5 else None,
    )
    old_px = scan.tamper.size_px or spec.size_px
    zoom = round(old_px * edit.resize) / (old_px * (1 - 2 * edit.crop))
    boxes = [
        replace(opacity, box_px=_moved(opacity.box_px, edit.crop * old_px, zoom, round(old_px * edit.resize)))
        for opacity in scan.opacities
    ]
    return replace(scan, edit=edit, opacities=tuple(boxes))


def _moved(
    box_px: tuple[float, float, float, float], cut_px: float, zoom: float, size_px: int
) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(np.clip((edge - cut_px) * zoom, 0, size_px)) for edge in box_px)
    return left, top, right, bottom


def _named(spec: PhantomSpec, scans: list[PhantomScan]) -> list[PhantomScan]:
    """Shuffle the rows and name the files so that no name tells class, patient or copy."""
    order = np.random.default_rng([spec.seed, _ORDER]).permutation(len(scans))
    final = {}
    for row, index in enumerate(order):
        scan = scans[int(index)]
        final[scan.image_path] = f"images/scan-{row:06d}{_suffix(scan, spec)}"
    return [
        replace(
            scan,
            image_path=final[scan.image_path],
            duplicate_of=None if scan.duplicate_of is None else final[scan.duplicate_of],
        )
        for scan in (scans[int(index)] for index in order)
    ]


def _suffix(scan: PhantomScan, spec: PhantomSpec) -> str:
    if scan.damage is not None:
        return ".jpg" if scan.damage == "truncated-jpeg" else ".png"
    if scan.edit is not None:
        return ".png" if scan.edit.jpeg_quality is None else ".jpg"
    if scan.tamper.size_px is not None:
        return ".jpg"
    look = next(look for look in spec.looks if look.name == scan.source)
    return ".jpg" if look.file_format == "jpeg" else ".png"
