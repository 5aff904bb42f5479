from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from pipeline.contracts import finding_line
from pipeline.pool import phantoms
from pipeline.pool.phantoms import FAULTS, FINDINGS, PhantomScan, PhantomSpec, SourceLook, lung_mask, write_pool
from pipeline.pool.phantoms.plan import deal
from pipeline.pool.phantoms.pool import encode, manifest_text

ROOT = Path(__file__).resolve().parents[2]
SMALL = PhantomSpec(num_patients=60, size_px=96, seed=5, exact_duplicate_share=0.05, near_duplicate_share=0.05)


@cache
def plan(spec: PhantomSpec) -> list[PhantomScan]:
    """The scans of a pool, planned once for all tests that look at it."""
    return phantoms.plan(spec)


@lru_cache(maxsize=1000)
def render(scan: PhantomScan, spec: PhantomSpec) -> np.ndarray:
    """A scan's picture, drawn once for all tests that look at it."""
    picture_HW = phantoms.render(scan, spec)
    picture_HW.flags.writeable = False
    return picture_HW


def digest(scans: list[PhantomScan], spec: PhantomSpec) -> dict[str, str]:
    return {scan.image_path: hashlib.sha256(encode(scan, spec)).hexdigest() for scan in scans}


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


def originals(scans: list[PhantomScan]) -> list[PhantomScan]:
    return [scan for scan in scans if scan.duplicate_of is None]


# --- the plan -------------------------------------------------------------------------------


def test_default_pool_has_the_promised_size_and_classes() -> None:
    scans = plan(PhantomSpec())
    people = {scan.person.number for scan in scans}
    assert len(people) == 400
    assert 620 <= len(scans) <= 680
    visits = Counter(scan.person.number for scan in originals(scans))
    assert set(visits.values()) == {1, 2, 3, 4}
    for finding, prevalence in PhantomSpec().prevalences.items():
        assert share([scan.label == finding for scan in scans]) == pytest.approx(prevalence, abs=0.03)
    assert len({scan.image_path for scan in scans}) == len(scans)
    assert all(scan.label == scan.true_label for scan in scans)


@pytest.mark.parametrize("seed", range(4))
def test_sources_have_the_same_classes_and_people(seed: int) -> None:
    scans = plan(PhantomSpec(seed=seed))
    by_source = {name: [scan for scan in scans if scan.source == name] for name in ("site-a", "site-b")}
    first, second = by_source.values()
    for finding in FINDINGS:
        gap = share([s.label == finding for s in first]) - share([s.label == finding for s in second])
        assert abs(gap) < 0.06
    for finding in FINDINGS[:3]:
        ages = [float(np.mean([s.person.age_years for s in scans if s.label == finding]))]
        assert ages[0] == pytest.approx(np.mean([s.person.age_years for s in scans]), abs=3.5)
        men = share([s.sex == "M" for s in scans if s.label == finding])
        assert men == pytest.approx(0.52, abs=0.1)


def test_some_follow_ups_change_their_label() -> None:
    labels: dict[int, set[str]] = {}
    for scan in originals(plan(PhantomSpec())):
        labels.setdefault(scan.person.number, set()).add(scan.label)
    changed = share([len(names) > 1 for names in labels.values()])
    assert 0.02 < changed < 0.15


def test_plan_depends_on_the_seed_and_on_nothing_else() -> None:
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    first = phantoms.plan(SMALL)
    np.random.seed(2)  # noqa: NPY002
    assert phantoms.plan(SMALL) == first
    assert phantoms.plan(replace(SMALL, seed=6)) != first


def test_official_split_keeps_patients_whole_and_classes_even() -> None:
    scans = plan(PhantomSpec(split="official"))
    splits: dict[int, set[str | None]] = {}
    for scan in scans:
        splits.setdefault(scan.person.number, set()).add(scan.official_split)
    assert all(len(names) == 1 for names in splits.values())
    test = [scan for scan in scans if scan.official_split == "test"]
    assert 0.25 < len(test) / len(scans) < 0.35
    for finding, prevalence in PhantomSpec().prevalences.items():
        assert share([scan.label == finding for scan in test]) == pytest.approx(prevalence, abs=0.05)
    assert all(scan.official_split is None for scan in plan(SMALL))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    parts=st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any),
    count=st.integers(0, 500),
    least=st.integers(0, 2),
)
def test_deal_gives_every_name_its_quota(parts: list[int], count: int, least: int) -> None:
    shares = {str(i): part / sum(parts) for i, part in enumerate(parts)}
    dealt = Counter(deal(shares, count, least))
    assert sum(dealt.values()) == count
    live = [name for name, part in shares.items() if part > 0]
    if least * len(live) <= count:
        assert all(dealt[name] >= least for name in live)
    if least == 0:
        assert all(abs(dealt[name] - part * count) < 1 + 1e-6 for name, part in shares.items())


# --- the pixels -----------------------------------------------------------------------------


def test_bytes_are_the_same_in_another_process_and_order() -> None:
    scans = plan(SMALL)[:24]
    code = (
        "import hashlib, sys\n"
        "from pipeline.pool.phantoms import PhantomSpec, plan\n"
        "from pipeline.pool.phantoms.pool import encode\n"
        "spec = PhantomSpec(num_patients=60, size_px=96, seed=5, exact_duplicate_share=0.05,"
        " near_duplicate_share=0.05)\n"
        "for scan in reversed(plan(spec)[:24]):\n"
        "    sys.stdout.write(scan.image_path + ' ' + hashlib.sha256(encode(scan, spec)).hexdigest() + '\\n')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    elsewhere = dict(line.split() for line in done.stdout.splitlines())
    assert elsewhere == digest(scans, SMALL)


def test_pictures_are_grey_bytes_of_the_asked_size() -> None:
    for size_px in (64, 150, 224):
        spec = PhantomSpec(num_patients=8, size_px=size_px)
        picture_HW = render(originals(plan(spec))[0], spec)
        assert picture_HW.shape == (size_px, size_px)
        assert picture_HW.dtype == np.uint8
        assert picture_HW.std() > 30


def test_lungs_are_dark_between_brighter_tissue() -> None:
    for scan in [scan for scan in plan(SMALL) if scan.true_label == "normal"][:10]:
        picture_HW, mask_HW = render(scan, SMALL), lung_mask(scan, SMALL)
        middle_HW = np.zeros_like(mask_HW)
        middle_HW[30:70, 44:52] = True
        assert 0.15 < mask_HW.mean() < 0.5
        assert picture_HW[middle_HW].mean() > picture_HW[mask_HW].mean() + 40
        assert picture_HW[mask_HW].mean() > 25


@pytest.mark.parametrize("faults", [frozenset(), frozenset({"metadata-predicts-label"})])
@pytest.mark.parametrize("finding", FINDINGS[1:])
def test_lesions_are_bright_where_the_truth_says(finding: str, faults: frozenset[str]) -> None:
    spec = replace(SMALL, faults=faults, near_duplicate_share=0.2)
    scans = [scan for scan in plan(spec) if scan.true_label == finding]
    scans = scans[:8] + [scan for scan in scans if scan.edit is not None][:4]
    rises = []
    for scan in scans:
        assert scan.opacities
        change_HW = render(scan, spec).astype(float) - render(replace(scan, opacities=()), spec)
        inside_HW = np.zeros(change_HW.shape, dtype=bool)
        for opacity in scan.opacities:
            left, top, right, bottom = opacity.box_px
            inside_HW[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
        lung_HW = lung_mask(scan, spec)
        assert (inside_HW & lung_HW).any()
        rises.append(change_HW[inside_HW & lung_HW].mean())
        assert rises[-1] > 2
        far_HW = ~inside_HW & ~lung_HW
        assert np.abs(change_HW[far_HW]).mean() < 0.5
        assert change_HW[inside_HW].sum() > 0.55 * change_HW.clip(0).sum()
    assert np.mean(rises) > 10


def test_normal_scans_have_no_lesion_and_nodules_have_the_promised_size() -> None:
    spec = PhantomSpec()
    scans = originals(plan(spec))
    assert all(not scan.opacities for scan in scans if scan.true_label == "normal")
    for scan in scans:
        if scan.true_label == "nodule":
            left, top, right, bottom = scan.opacities[0].box_px
            assert 8 < right - left < 21
            assert 8 < bottom - top < 21


def test_scans_of_one_patient_look_alike() -> None:
    spec = replace(SMALL, num_patients=80, exact_duplicate_share=0.0, near_duplicate_share=0.0)
    scans = [scan for scan in plan(spec) if scan.source == "site-a"]
    # The pose is taken out, so that what remains in common is the anatomy.
    still = [replace(scan, pose=scans[0].pose, opacities=()) for scan in scans]
    ids = np.array([scan.person.number for scan in still])
    pixels_ND = np.stack([render(scan, spec)[20:80, 15:80].ravel() for scan in still]).astype(float)
    corr_NN = np.corrcoef(pixels_ND)
    same_NN = ids[:, None] == ids[None, :]
    off_NN = ~np.eye(len(ids), dtype=bool)
    assert corr_NN[same_NN & off_NN].min() > corr_NN[~same_NN].mean()
    assert corr_NN[same_NN & off_NN].mean() > np.quantile(corr_NN[~same_NN], 0.99)
    # And with the poses left in, on average.
    posed_ND = np.stack([render(scan, spec).ravel() for scan in scans]).astype(float)
    corr_NN = np.corrcoef(posed_ND)
    assert corr_NN[same_NN & off_NN].mean() > corr_NN[~same_NN].mean() + 0.005


def test_copies_tell_the_truth_about_themselves() -> None:
    scans = plan(SMALL)
    by_path = {scan.image_path: scan for scan in scans}
    copies = [scan for scan in scans if scan.duplicate_of is not None]
    exact = [scan for scan in copies if scan.edit is None]
    near = [scan for scan in copies if scan.edit is not None]
    num_originals = len(originals(scans))
    assert len(exact) == len(near) == round(0.05 * num_originals)
    for copy in copies:
        original = by_path[copy.duplicate_of or ""]
        assert original.duplicate_of is None
        assert copy.image_path != original.image_path
        assert (copy.patient_id, copy.label) == (original.patient_id, original.label)
        same_bytes = encode(copy, SMALL) == encode(original, SMALL)
        assert same_bytes == (copy.edit is None)
        if copy.edit is not None:
            size = render(original, SMALL).shape
            resized = np.asarray(Image.fromarray(render(copy, SMALL)).resize(size))
            corr = np.corrcoef(resized.ravel(), render(original, SMALL).ravel())[0, 1]
            assert corr > 0.95


# --- the faults -----------------------------------------------------------------------------

Check = Callable[[list[PhantomScan], PhantomSpec], bool]


def _splits_of(key: Callable[[PhantomScan], object], scans: list[PhantomScan]) -> dict[object, set[object]]:
    groups: dict[object, set[object]] = {}
    for scan in scans:
        groups.setdefault(key(scan), set()).add(scan.official_split)
    return groups


def _pairs(scans: list[PhantomScan]) -> list[tuple[PhantomScan, PhantomScan]]:
    by_path = {scan.image_path: scan for scan in scans}
    return [(s, by_path[s.duplicate_of]) for s in scans if s.duplicate_of is not None]


def _collides(scans: list[PhantomScan], spec: PhantomSpec) -> bool:
    owners: dict[str, set[tuple[int, str]]] = {}
    for scan in originals(scans):
        owners.setdefault(scan.patient_id, set()).add((scan.person.number, scan.source))
    shared = [people for people in owners.values() if len(people) > 1]
    return len(shared) >= 3 and all(len({source for _, source in people}) == 2 for people in shared)


def _leaks(scans: list[PhantomScan], spec: PhantomSpec) -> bool:
    groups = _splits_of(lambda scan: scan.person.number, originals(scans))
    return sum(len(names) == 2 for names in groups.values()) >= 5


def _looks_differ(scans: list[PhantomScan], spec: PhantomSpec) -> bool:
    means = {}
    for name in ("site-a", "site-b"):
        some = [s for s in scans if s.source == name and s.edit is None][:12]
        means[name] = np.array([render(scan, spec)[12:-12, 12:-12].mean() for scan in some])
    return bool(means["site-a"].min() > means["site-b"].max())


def _size_follows_label(scans: list[PhantomScan], spec: PhantomSpec) -> bool:
    some = [scan for scan in originals(scans) if scan.damage is None]
    some = [s for s in some if s.label == "pneumonia"][:4] + [s for s in some if s.label == "normal"][:4]
    for scan in some:
        picture_HW = render(scan, spec)
        odd = len(picture_HW) != spec.size_px and picture_HW[:2].max() == 0
        if odd != (scan.label == "pneumonia"):
            return False
    return True


def _marker_follows_label(scans: list[PhantomScan], spec: PhantomSpec) -> bool:
    marked = [scan.tamper.marker != "" for scan in scans]
    sick = [scan.label == "pneumonia" for scan in scans]
    if not share([m == s for m, s in zip(marked, sick, strict=True)]) > 0.95:
        return False
    scan = next(scan for scan in originals(scans) if scan.tamper.marker)
    plain = render(replace(scan, tamper=replace(scan.tamper, marker="")), spec)
    change_HW = render(scan, spec) != plain
    return bool(change_HW.any() and not (change_HW & lung_mask(scan, spec)).any())


def _population_follows_label(scans: list[PhantomScan], spec: PhantomSpec) -> bool:
    sick = [scan for scan in scans if scan.label == "effusion"]
    well = [scan for scan in scans if scan.label != "effusion"]
    ages = [scan.age_years or 0 for scan in sick], [scan.age_years or 0 for scan in well]
    old = min(ages[0]) > max(ages[1])
    gap = share([s.view == "AP" for s in sick]) - share([s.view == "AP" for s in well])
    return old and gap > 0.5 and share([s.sex == "M" for s in sick]) > 0.8


def _unreadable(scans: list[PhantomScan], spec: PhantomSpec) -> bool:
    broken = {scan.damage: scan for scan in scans if scan.damage is not None}
    for scan in broken.values():
        with pytest.raises((UnidentifiedImageError, OSError)):
            Image.open(io.BytesIO(encode(scan, spec))).load()
    return set(broken) == {"truncated-jpeg", "text-as-png", "empty-file"}


CHECKS: dict[str, Check] = {
    "exact-duplicates": lambda scans, spec: (
        share([s.duplicate_of is not None and s.edit is None for s in scans]) > 0.08
    ),
    "near-duplicates": lambda scans, spec: share([s.edit is not None for s in scans]) > 0.08,
    "duplicates-across-splits": lambda scans, spec: all(
        copy.official_split != original.official_split for copy, original in _pairs(scans)
    ),
    "duplicates-across-patients": lambda scans, spec: all(
        copy.patient_id != original.patient_id for copy, original in _pairs(scans)
    ),
    "patient-across-splits": _leaks,
    "patient-id-collision": _collides,
    "label-conflict": lambda scans, spec: (
        share([copy.label != original.label for copy, original in _pairs(scans)]) > 0.5
    ),
    "source-label-confounding": lambda scans, spec: {s.source for s in scans if s.label == "pneumonia"} == {"site-a"},
    "source-predictable": _looks_differ,
    "metadata-predicts-label": _size_follows_label,
    "lungs-masked-predicts-label": _marker_follows_label,
    "population-confounding": _population_follows_label,
    "class-imbalance": lambda scans, spec: 0 < share([s.label == "nodule" for s in scans]) < 0.01,
    "too-few-cases": lambda scans, spec: len({s.person.number for s in scans}) == 40,
    "missing-metadata": lambda scans, spec: all(
        0.1 < share([value(s) for s in scans]) < 0.55
        for value in (
            lambda s: s.patient_id == "",
            lambda s: s.age_years is None,
            lambda s: s.sex == "",
            lambda s: s.view == "",
        )
    ),
    "quarantined-scans": _unreadable,
}
FAULT_POOL = PhantomSpec(num_patients=150, size_px=96, seed=2, split="official")


def test_every_fault_has_a_check() -> None:
    assert set(CHECKS) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_does_what_it_says_and_a_clean_pool_is_free_of_it(fault: str) -> None:
    clean, faulty = FAULT_POOL, replace(FAULT_POOL, faults=frozenset({fault}))
    assert CHECKS[fault](plan(faulty), faulty)
    assert not CHECKS[fault](plan(clean), clean)


@pytest.mark.parametrize("fault", [name for name in FAULTS if "split" not in name])
def test_other_faults_leave_patients_in_one_split(fault: str) -> None:
    scans = plan(replace(FAULT_POOL, faults=frozenset({fault})))
    groups = _splits_of(lambda scan: scan.patient_id, [s for s in scans if s.patient_id])
    assert all(len(names) == 1 for names in groups.values())


@pytest.mark.parametrize("fault", ["duplicates-across-splits", "patient-across-splits"])
def test_split_faults_bring_their_column(fault: str) -> None:
    scans = plan(PhantomSpec.from_uri(f"phantom:num_patients=60,faults={fault}"))
    assert {scan.official_split for scan in scans} == {"train", "test"}


def test_confounded_sources_keep_the_other_classes_and_their_sizes() -> None:
    scans = plan(PhantomSpec(faults=frozenset({"source-label-confounding"})))
    second = [scan for scan in scans if scan.source == "site-b"]
    assert len(second) / len(scans) == pytest.approx(0.4, abs=0.05)
    assert {scan.label for scan in second} == {"normal", "effusion", "nodule"}


def test_all_compatible_faults_can_be_planted_together() -> None:
    spec = replace(FAULT_POOL, faults=frozenset(FAULTS) - {"too-few-cases"})
    scans = plan(spec)
    assert len({scan.image_path for scan in scans}) == len(scans)
    assert encode(scans[0], spec) == encode(scans[0], spec)


# --- several findings -------------------------------------------------------------------------

SEVERAL = PhantomSpec(num_patients=400, findings="independent", split="official")


def values_NC(lines: list[str]) -> np.ndarray:
    return np.array([list(finding_line.read(line).values()) for line in lines])


def test_independent_findings_come_alone_together_or_not_at_all() -> None:
    scans = plan(SEVERAL)
    true_NC = values_NC([scan.true_label for scan in scans])
    assert tuple(finding_line.read(scans[0].true_label)) == FINDINGS[1:] == SEVERAL.independent
    np.testing.assert_allclose(true_NC.mean(axis=0), list(SEVERAL.prevalences.values()), atol=0.03)
    assert set(true_NC.sum(axis=1)) == {0, 1, 2, 3}
    off_CC = ~np.eye(3, dtype=bool)
    assert np.abs(np.corrcoef(true_NC.T)[off_CC]).max() < 0.1
    for scan, row in zip(scans, true_NC, strict=True):
        shown = {opacity.finding for opacity in scan.opacities}
        assert shown == {name for name, there in zip(FINDINGS[1:], row, strict=True) if there}


def test_independent_findings_go_with_no_source() -> None:
    scans = plan(SEVERAL)
    first = np.array([scan.source == "site-a" for scan in scans])
    true_NC = values_NC([scan.true_label for scan in scans])
    assert np.abs(true_NC[first].mean(axis=0) - true_NC[~first].mean(axis=0)).max() < 0.06


def test_each_finding_recovers_by_itself_and_a_new_one_may_come() -> None:
    visits: dict[int, list[str]] = {}
    for scan in originals(plan(SEVERAL)):
        visits.setdefault(scan.person.number, []).append(scan.true_label)
    several = [values_NC(lines) for lines in visits.values() if len(lines) > 1]
    num_changed = [int((found_VC != found_VC[0]).any(axis=0).sum()) for found_VC in several]
    assert 0.1 < share([num > 0 for num in num_changed]) < 0.5
    assert share([num == 1 for num in num_changed]) > share([num > 1 for num in num_changed]) > 0


def test_some_values_are_unknown_outside_the_test_split_and_the_others_true() -> None:
    scans = plan(SEVERAL)
    said_NC = values_NC([scan.label for scan in scans])
    true_NC = values_NC([scan.true_label for scan in scans])
    test = np.array([scan.official_split == "test" for scan in scans])
    assert not np.isnan(said_NC[test]).any()
    assert np.all((np.isnan(said_NC[~test]).mean(axis=0) > 0.02) & (np.isnan(said_NC[~test]).mean(axis=0) < 0.09))
    known_NC = ~np.isnan(said_NC)
    np.testing.assert_array_equal(said_NC[known_NC], true_NC[known_NC])
    assert not np.isnan(values_NC([scan.label for scan in plan(replace(SEVERAL, unknown_share=0.0))])).any()


def test_the_picture_shows_each_of_its_findings() -> None:
    spec = replace(SEVERAL, size_px=96, num_patients=150)
    scan = next(scan for scan in plan(spec) if len({one.finding for one in scan.opacities}) == 3)
    whole_HW = render(scan, spec).astype(float)
    for finding in FINDINGS[1:]:
        others = tuple(one for one in scan.opacities if one.finding != finding)
        assert (whole_HW - render(replace(scan, opacities=others), spec)).max() > 10


def test_manifest_has_a_column_per_finding(tmp_path: Path) -> None:
    spec = replace(TINY, findings="independent", unknown_share=0.3)
    with write_pool(spec, tmp_path).open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    header = ["image_path", "pneumonia", "effusion", "nodule", "patient_id", "source", "age", "sex", "view"]
    assert list(rows[0]) == header
    signs = {"1": 1.0, "0": 0.0, "": float("nan")}
    found_NC = [[signs[row[finding]] for finding in FINDINGS[1:]] for row in rows]
    np.testing.assert_array_equal(found_NC, values_NC([scan.label for scan in plan(spec)]))
    assert {row["nodule"] for row in rows} == {"1", "0", ""}


def test_independent_findings_are_asked_for_in_the_uri() -> None:
    uri = "phantom:findings=independent,prevalences=effusion:0.4+nodule:0.1,unknown_share=0"
    spec = PhantomSpec.from_uri(uri)
    assert spec == PhantomSpec(findings="independent", prevalences={"effusion": 0.4, "nodule": 0.1}, unknown_share=0.0)
    assert spec.independent == ("effusion", "nodule")
    again = pickle.loads(pickle.dumps(spec))
    assert (again, hash(again), again.to_json()) == (spec, hash(spec), spec.to_json())


def test_pools_of_exclusive_findings_are_the_bytes_they_were() -> None:
    known = "76969e50"
    spec = PhantomSpec.from_uri("phantom:num_patients=20,size_px=64,seed=3,split=official")
    assert PhantomSpec().independent == ()
    assert "findings" not in json.loads(spec.to_json())
    text = spec.to_json() + manifest_text(plan(spec), spec)
    assert hashlib.sha256(text.encode()).hexdigest()[:8] == known


# --- the request ----------------------------------------------------------------------------


def test_uri_reads_into_a_spec() -> None:
    assert PhantomSpec.from_uri("phantom:") == PhantomSpec()
    uri = "phantom:num_patients=300, seed=3,faults=patient-across-splits+class-imbalance,split=official"
    spec = PhantomSpec.from_uri(uri)
    assert (spec.num_patients, spec.seed, spec.split) == (300, 3, "official")
    assert spec.faults == {"patient-across-splits", "class-imbalance"}


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("folder:/x", ["not a phantom URI", "phantom:num_patients=300"]),
        ("phantom", ["not a phantom URI"]),
        ("phantom:num_patient=3", ["unknown key 'num_patient'", "did you mean 'num_patients'", "faults"]),
        ("phantom:seed", ["unknown key 'seed'"]),
        ("phantom:seed=x", ["seed='x'", "whole number"]),
        ("phantom:near_duplicate_share=x", ["near_duplicate_share='x'", "not a number"]),
        ("phantom:seed=1,seed=2", ["'seed' is given twice"]),
        ("phantom:faults=near-duplicate", ["unknown fault", "did you mean 'near-duplicates'", *FAULTS]),
        ("phantom:num_patients=2", ["num_patients is 2", "8 or more"]),
        ("phantom:split=some", ["split is 'some'", "official"]),
        ("phantom:num_patients=40,faults=class-imbalance", ["class-imbalance", "150", "40"]),
        ("phantom:size_px=5,seed=-1", ["size_px is 5", "seed is -1"]),
        ("phantom:findings=both", ["findings is 'both'", "independent"]),
        ("phantom:findings=independent,faults=label-conflict", ["exclusive findings only", "leave out faults"]),
        ("phantom:findings=independent,prevalences=normal:0.4", ["unknown finding 'normal'"]),
        ("phantom:findings=independent,prevalences=effusion:1", ["from 0 to below 1"]),
        ("phantom:findings=independent,unknown_share=0.7", ["unknown_share is 0.7", "0 to 0.5"]),
        ("phantom:unknown_share=0.1", ["unknown_share is of independent findings"]),
        ("phantom:prevalences=effusion", ["prevalences='effusion'", "pneumonia:0.3+effusion:0.2"]),
        ("phantom:findings=independent,prevalences=nodule:0.1+nodule:0.2", ["each finding once"]),
    ],
)
def test_bad_uri_is_one_clear_error(uri: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        PhantomSpec.from_uri(uri)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"prevalences": {"normal": 0.5, "pneumonia": 0.2}}, "add up to 1"),
        ({"prevalences": {"normal": 0.5, "pneumothorax": 0.5}}, "unknown finding"),
        ({"prevalences": {"normal": 1.0}}, "no finding"),
        ({"scans_per_patient": {5: 1.0}}, "counts 1 to 4"),
        ({"sources": (SourceLook("a", 0.5), SourceLook("a", 0.5))}, "its own name"),
        ({"sources": (SourceLook("a", 1.0, gamma=0.0),)}, "gamma"),
        ({"exact_duplicate_share": 0.7}, "0 to 0.5"),
        (
            {"sources": (SourceLook("a", 1.0),), "faults": frozenset({"patient-id-collision"})},
            "two sources",
        ),
    ],
)
def test_bad_spec_is_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(PhantomSpec(), **change)  # type: ignore[arg-type]


def test_spec_travels_between_processes_and_cannot_be_changed() -> None:
    shares = {"normal": 0.5, "effusion": 0.5}
    spec = PhantomSpec(prevalences=shares, faults=frozenset({"label-conflict"}))
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert hash(again) == hash(spec)
    shares["normal"] = 0.0
    assert spec.prevalences["normal"] == 0.5
    assert {scan.label for scan in plan(spec)} == {"normal", "effusion"}


# --- the folder -----------------------------------------------------------------------------

TINY = PhantomSpec(num_patients=10, size_px=64, exact_duplicate_share=0.1, near_duplicate_share=0.1)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_pool_is_complete_and_the_manifest_says_what_was_planned(tmp_path: Path) -> None:
    manifest = write_pool(TINY, tmp_path / "pool")
    with manifest.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["image_path", "label", "patient_id", "source", "age", "sex", "view"]
    scans = plan(TINY)
    assert [row["image_path"] for row in rows] == [scan.image_path for scan in scans]
    assert [row["label"] for row in rows] == [scan.label for scan in scans]
    for scan in scans:
        with Image.open(manifest.parent / scan.image_path) as image:
            assert image.mode == "L"
            picture_HW = np.asarray(image)
        if scan.image_path.endswith(".png"):
            np.testing.assert_array_equal(picture_HW, render(scan, TINY))
    assert {p.suffix for p in (tmp_path / "pool").rglob("*") if p.is_file()} == {
        ".png",
        ".jpg",
        ".csv",
        ".json",
    }


def test_manifest_has_a_split_column_when_asked(tmp_path: Path) -> None:
    manifest = write_pool(replace(TINY, split="official"), tmp_path)
    header = manifest.read_text(encoding="utf-8").splitlines()[0]
    assert header == "image_path,label,patient_id,source,age,sex,view,official_split"


def test_writing_again_touches_nothing_and_heals_what_is_missing(tmp_path: Path) -> None:
    manifest = write_pool(TINY, tmp_path, num_threads=1)
    first = _contents(tmp_path)
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    write_pool(TINY, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == stamps
    next(iter((tmp_path / "images").iterdir())).unlink()
    manifest.unlink()
    write_pool(TINY, tmp_path)
    assert _contents(tmp_path) == first


def test_number_of_threads_does_not_change_the_bytes(tmp_path: Path) -> None:
    write_pool(TINY, tmp_path / "one", num_threads=1)
    write_pool(TINY, tmp_path / "three", num_threads=3)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "three")


def test_foreign_folders_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"not a phantom pool.*thesis\.txt.*empty folder"):
        write_pool(TINY, tmp_path)
    assert _contents(tmp_path) == {"thesis.txt": b"mine"}
    with pytest.raises(ValueError, match="is a file"):
        write_pool(TINY, tmp_path / "thesis.txt")
    with pytest.raises(ValueError, match="num_threads is 0"):
        write_pool(TINY, tmp_path / "new", num_threads=0)


def test_pool_of_another_spec_is_refused(tmp_path: Path) -> None:
    write_pool(TINY, tmp_path)
    before = _contents(tmp_path)
    with pytest.raises(ValueError, match="another spec"):
        write_pool(replace(TINY, seed=1), tmp_path)
    assert _contents(tmp_path) == before
