"""The faults that can be planted, each a small change to the plan of a clean pool.

`plan` calls these functions at fixed points; without faults each returns its input or the
neutral answer. What each fault does is said once, in `spec.FAULT_EFFECTS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import numpy as np

from pipeline.pool.phantoms.scan import Damage, PhantomScan
from pipeline.pool.phantoms.spec import FINDINGS, PhantomSpec

if TYPE_CHECKING:
    from pipeline.pool.phantoms.scan import Patient

IMBALANCE_SHARE = 0.005
EXACT_SHARE = 0.12
NEAR_SHARE = 0.15
COPY_FAULT_SHARE = 0.04  # enough copies, of each kind, for a fault about copies to show
CONFLICT_SHARE = 0.7
COLLISION_SHARE = 0.06
SPLIT_LEAK_SHARE = 1 / 3
QUARANTINE_SHARE = 0.03
MARKER_SHARE = 0.95
TAMPERED_SIZE = 8 / 7  # of the spec's: 256 px beside 224
TAMPERED_BORDER_PX = 9
TAMPERED_MARKER = "AX"
MISSING_SHARES: Mapping[str, float] = {"patient_id": 0.2, "age_years": 0.4, "sex": 0.3, "view": 0.25}

_COPY_FAULTS = frozenset({"duplicates-across-splits", "duplicates-across-patients", "label-conflict"})
_STAGE = 100  # first child seed; each fault has its own, so faults do not move each other


def _rng(spec: PhantomSpec, stage: int) -> np.random.Generator:
    return np.random.default_rng([spec.seed, _STAGE + stage])


def _some(rng: np.random.Generator, items: list[int], share: float, least: int = 1) -> list[int]:
    """Return a random part of the items, in random order, `least` of them if there are."""
    count = min(len(items), max(least, round(share * len(items))))
    return [items[int(index)] for index in rng.permutation(len(items))[:count]]


def skew_prevalences(spec: PhantomSpec) -> Mapping[str, float]:
    """Return the prevalences; class-imbalance moves the rarest finding's share to normal."""
    if "class-imbalance" not in spec.faults:
        return spec.prevalences
    rare = spec.rarest_finding
    moved = max(0.0, spec.prevalences[rare] - IMBALANCE_SHARE)
    skewed = dict(spec.prevalences)
    skewed[rare] -= moved
    skewed[FINDINGS[0]] = skewed.get(FINDINGS[0], 0.0) + moved
    return skewed


def source_shares(spec: PhantomSpec, finding: str) -> Mapping[str, float]:
    """Return each source's part of the patients with a finding: the same for all but confounded.

    Args:
        spec: the sources and faults.
        finding: what the patients have.

    Returns:
        Source name to its part, adding up to 1.
    """
    shares = {look.name: look.share for look in spec.sources}
    if "source-label-confounding" not in spec.faults:
        return shares
    first = spec.sources[0].name
    if finding == spec.fault_finding:
        return {first: 1.0}
    # The others make room, so that the sources keep their sizes.
    shares[first] = max(0.05, shares[first] - spec.prevalences[spec.fault_finding])
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def skew_patient(spec: PhantomSpec, patient: Patient, rng: np.random.Generator) -> Patient:
    """Return the patient, changed by population-confounding or class-imbalance."""
    if "population-confounding" in spec.faults:
        sick = patient.finding == "effusion"
        age_years = int(rng.integers(68, 92)) if sick else round(18 + 0.62 * (patient.person.age_years - 18))
        person = replace(patient.person, age_years=age_years)
        view = patient.view
        if sick and rng.random() < 0.9:
            person, view = replace(person, sex="M"), "AP"
        patient = replace(patient, person=person, view=view)
    if "class-imbalance" in spec.faults and patient.finding == spec.rarest_finding:
        patient = replace(patient, num_scans=1)
    return patient


def frozen_findings(spec: PhantomSpec, source: str) -> frozenset[str]:
    """Return the findings that nobody of a source may get or lose between visits."""
    frozen: set[str] = set()
    if "class-imbalance" in spec.faults:
        frozen.add(spec.rarest_finding)
    if "source-label-confounding" in spec.faults and source != spec.sources[0].name:
        frozen.add(spec.fault_finding)
    if "population-confounding" in spec.faults:
        frozen.add("effusion")
    return frozenset(frozen)


def num_copies(spec: PhantomSpec, num_scans: int) -> tuple[int, int]:
    """Return how many exact and near duplicates to make of so many originals."""
    exact, near = spec.exact_duplicate_share, spec.near_duplicate_share
    if spec.faults & _COPY_FAULTS:
        exact, near = max(exact, COPY_FAULT_SHARE), max(near, COPY_FAULT_SHARE)
    if "exact-duplicates" in spec.faults:
        exact = max(exact, EXACT_SHARE)
    if "near-duplicates" in spec.faults:
        near = max(near, NEAR_SHARE)
    return round(exact * num_scans), round(near * num_scans)


def plant_in_originals(spec: PhantomSpec, scans: list[PhantomScan]) -> list[PhantomScan]:
    """Plant what concerns single scans and patients; copies then inherit it."""
    if "patient-id-collision" in spec.faults:
        scans = _collide(spec, scans)
    if "patient-across-splits" in spec.faults:
        scans = _leak_patients(spec, scans)
    if "metadata-predicts-label" in spec.faults:
        scans = [_resize_fault(spec, scan) for scan in scans]
    if "lungs-masked-predicts-label" in spec.faults:
        scans = _mark(spec, scans)
    if "quarantined-scans" in spec.faults:
        scans = _damage(spec, scans)
    return scans


def plant_in_copies(spec: PhantomSpec, scans: list[PhantomScan]) -> list[PhantomScan]:
    """Plant what concerns copies, then blank the metadata of all."""
    if "duplicates-across-splits" in spec.faults:
        other = {"train": "test", "test": "train"}
        scans = [
            replace(scan, official_split=other[scan.official_split])
            if scan.duplicate_of is not None and scan.official_split is not None
            else scan
            for scan in scans
        ]
    if "duplicates-across-patients" in spec.faults:
        scans = _give_away_copies(spec, scans)
    if "label-conflict" in spec.faults:
        scans = _relabel_copies(spec, scans)
    if "missing-metadata" in spec.faults:
        scans = _blank(spec, scans)
    return scans


def _collide(spec: PhantomSpec, scans: list[PhantomScan]) -> list[PhantomScan]:
    rng = _rng(spec, 0)
    first, second = spec.sources[0].name, spec.sources[1].name
    people = [sorted({s.person.number for s in scans if s.source == name}) for name in (first, second)]
    lenders = _some(rng, people[0], 1.0)
    borrowers = _some(rng, people[1], COLLISION_SHARE, least=3)
    shared = dict(zip(borrowers, lenders, strict=False))
    # The lender's split goes along, or the collision would also be a patient across splits.
    splits = {scan.person.number: scan.official_split for scan in scans}
    result = []
    for scan in scans:
        lender = shared.get(scan.person.number)
        if lender is not None:
            scan = replace(scan, patient_id=f"P{lender:05d}", official_split=splits[lender])
        result.append(scan)
    return result


def _leak_patients(spec: PhantomSpec, scans: list[PhantomScan]) -> list[PhantomScan]:
    rng = _rng(spec, 1)
    visits = Counter(scan.person.number for scan in scans)
    several = sorted(number for number, count in visits.items() if count > 1)
    leaking = set(_some(rng, several, SPLIT_LEAK_SHARE))
    result, last_seen = [], dict.fromkeys(visits, "")
    for scan in scans:
        previous = last_seen[scan.person.number]
        if scan.person.number in leaking and previous:
            scan = replace(scan, official_split="train" if previous == "test" else "test")
        last_seen[scan.person.number] = scan.official_split or ""
        result.append(scan)
    return result


def _resize_fault(spec: PhantomSpec, scan: PhantomScan) -> PhantomScan:
    if scan.true_label != spec.fault_finding:
        return scan
    size_px = round(spec.size_px * TAMPERED_SIZE)
    zoom = size_px / spec.size_px
    opacities = []
    for opacity in scan.opacities:
        left, top, right, bottom = opacity.box_px
        opacities.append(replace(opacity, box_px=(left * zoom, top * zoom, right * zoom, bottom * zoom)))
    tamper = replace(scan.tamper, size_px=size_px, border_px=TAMPERED_BORDER_PX)
    return replace(scan, tamper=tamper, opacities=tuple(opacities))


def _mark(spec: PhantomSpec, scans: list[PhantomScan]) -> list[PhantomScan]:
    rng = _rng(spec, 2)
    return [
        replace(scan, tamper=replace(scan.tamper, marker=TAMPERED_MARKER))
        if rng.random() < MARKER_SHARE and scan.true_label == spec.fault_finding
        else scan
        for scan in scans
    ]


def _damage(spec: PhantomSpec, scans: list[PhantomScan]) -> list[PhantomScan]:
    kinds: tuple[Damage, ...] = get_args(Damage)
    broken = _some(_rng(spec, 3), list(range(len(scans))), QUARANTINE_SHARE, least=len(kinds))
    result = list(scans)
    for rank, index in enumerate(broken):
        result[index] = replace(scans[index], damage=kinds[rank % len(kinds)])
    return result


def _give_away_copies(spec: PhantomSpec, scans: list[PhantomScan]) -> list[PhantomScan]:
    """Give each copy to another patient of the same label, source and split."""
    rng = _rng(spec, 4)
    result = []
    for scan in scans:
        if scan.duplicate_of is not None:
            strangers = [
                other
                for other in scans
                if other.person.number != scan.person.number
                and other.patient_id != scan.patient_id
                and other.duplicate_of is None
                and (other.label, other.source) == (scan.label, scan.source)
                and other.official_split == scan.official_split
            ]
            if strangers:
                other = strangers[int(rng.integers(len(strangers)))]
                scan = replace(scan, patient_id=other.patient_id, age_years=other.age_years, sex=other.sex)
        result.append(scan)
    return result


def _relabel_copies(spec: PhantomSpec, scans: list[PhantomScan]) -> list[PhantomScan]:
    rng = _rng(spec, 5)
    copies = [index for index, scan in enumerate(scans) if scan.duplicate_of is not None]
    result = list(scans)
    for index in _some(rng, copies, CONFLICT_SHARE):
        others = [name for name in FINDINGS if spec.prevalences.get(name) and name != scans[index].label]
        result[index] = replace(scans[index], label=others[int(rng.integers(len(others)))])
    return result


def _blank(spec: PhantomSpec, scans: list[PhantomScan]) -> list[PhantomScan]:
    rng = _rng(spec, 6)
    result = []
    for scan in scans:
        lost = {name for name, share in MISSING_SHARES.items() if rng.random() < share}
        result.append(
            replace(
                scan,
                patient_id="" if "patient_id" in lost else scan.patient_id,
                age_years=None if "age_years" in lost else scan.age_years,
                sex="" if "sex" in lost else scan.sex,
                view="" if "view" in lost else scan.view,
            )
        )
    return result
