"""Faults as other people make them, planted in clean pools: caught, for the right reason, and how often by mistake.

What was found of every fault and seed is kept in `results/planted.json`, so that a restart goes on; a line that is
taken out of it is measured anew. A pool is audited clean, and its folder is copied for every fault, so that scans
that the fault leaves alone are neither read nor embedded again.
"""

import csv
import json
import os
import re
import shutil
import tempfile
from argparse import Namespace
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.measures import bootstrap
from tests.bench import planted_pictures as pictures
from tests.bench import planted_rows as table
from tests.bench import pools, tables
from tests.bench.audit import audited
from tests.bench.planted_rows import Plant, Row

NUM_PATIENTS, SIDE_PX, NUM_REAL = 200, 96, 300
SETTINGS = {
    "preprocess.size_px": SIDE_PX,
    "audit.num_bootstrap": 50,
    "audit.max_scans": 300,
    "audit.max_equalised_scans": 0,
    "duplicates.changed": False,
}
CHANGED = {"duplicates.changed": True}
# The checks that count on clean real scans; these scans have true faults, which others have to find.
OURS = (
    *("not-chest-x-rays", "labels-look-wrong", "patient-ids-doubtful", "classes-differ-across-splits"),
    *("duplicates-across-splits", "duplicates-across-patients", "label-conflict", "patient-across-splits"),
    *("source-label-confounding", "class-imbalance", "too-few-cases", "quarantined-scans", "near-duplicates"),
)
BASES = ("phantoms", "kermany", "nih")
STORE = tables.RESULTS / "planted.json"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        plant: Changes the rows of a clean pool; pictures that it makes lie in the folder it is given.
        check: The check that must fire; of several, one.
        reason: A pattern of its message or of what its evidence says.
        base: The clean pool it is planted in.
        verdict: What the verdict must be; None: caution or worse.
        settings: Options that the audit needs for it.
    """

    plant: Plant
    check: str | tuple[str, ...]
    reason: str
    base: str = "phantoms"
    verdict: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks of which one must fire."""
        return (self.check,) if isinstance(self.check, str) else self.check


def _copies(change: str, strength: object, reason: str) -> Fault:
    plant = pictures.copied_across(pictures.augmented(change, strength))
    return Fault(plant, "duplicates-across-splits", reason, "kermany", "invalid", CHANGED)


_SHOWN = ("lungs-masked-predicts-label", "metadata-predicts-label")
_RIGHT_SPLIT = "in training and in test"
_NO_SOURCE = "no source is known"
FAULTS = {
    "10 % of labels wrong": Fault(table.relabelled(0.1), "labels-look-wrong", "labels look wrong"),
    "20 % of labels wrong": Fault(table.relabelled(0.2), "labels-look-wrong", "labels look wrong"),
    "10 % of labels wrong, kermany": Fault(table.relabelled(0.1), "labels-look-wrong", "labels look wrong", "kermany"),
    "20 % of labels wrong, kermany": Fault(table.relabelled(0.2), "labels-look-wrong", "labels look wrong", "kermany"),
    "30 % of pneumonia called normal, kermany": Fault(
        table.relabelled(0.3, "pneumonia"), "labels-look-wrong", "labels look wrong", "kermany"
    ),
    "3 ages of 400": Fault(table.impossible("age", "400"), "missing-metadata", "not understood.*400"),
    "3 ages of −3": Fault(table.impossible("age", "-3"), "missing-metadata", "not understood.*-3"),
    "3 study dates in the future": Fault(
        table.impossible("StudyDate", "2999-01-01"), "missing-metadata", "in the future"
    ),
    "3 study dates of no calendar": Fault(table.impossible("StudyDate", "2020-02-30"), "missing-metadata", "no day of"),
    "all study dates moved to hide them": Fault(table.moved_dates, "missing-metadata", "moved to hide them"),
    "ids respelled across the split": Fault(table.respelled, "patient-ids-doubtful", "differ in spelling alone"),
    "ids are names of files": Fault(table.named_after_files, "patient-ids-doubtful", "names of their files"),
    "a placeholder as an id": Fault(table.placeholder("99999", 0.125), "patient-ids-doubtful", "of .* scans"),
    "two patients under one id": Fault(table.merged, "patient-id-collision", "two sexes|ages far apart", "nih"),
    "scans again under other patients": Fault(
        pictures.copied(None, share=0.03, other="patient_id"), "duplicates-across-patients", "more than one patient"
    ),
    "patients in training and test": Fault(table.across("train"), "patient-across-splits", _RIGHT_SPLIT),
    "patients in validation and test": Fault(table.across("val"), "patient-across-splits", "in validation and in test"),
    "a class 14 years older": Fault(table.older, "population-confounding", "pneumonia.* older|age"),
    "a class of men, nih": Fault(table.goes_with("sex", "M", "F"), "population-confounding", "sex", "nih"),
    "a class lying (AP), the others standing (PA), nih": Fault(
        table.goes_with("view", "AP", "PA"), "population-confounding", "view", "nih"
    ),
    "the age of a class is not known": Fault(table.blanked("age"), "population-confounding", "not known"),
    "class shares differ in the test": Fault(
        table.other_shares("test"), "classes-differ-across-splits", "in training and .* in the test"
    ),
    "class shares differ in validation": Fault(
        table.other_shares("val"), "classes-differ-across-splits", "in training and .* in validation"
    ),
    "a test of 3 patients a class": Fault(table.small_holdout, "too-few-cases", "in the test"),
    "4 scans of a class": Fault(table.rare, ("class-imbalance", "too-few-cases"), "pneumonia"),
    "sources reversed in the test": Fault(table.reversed_sources, "source-label-confounding", "part alone"),
    "a class from one hospital": Fault(table.own_source, "source-label-confounding", "pneumonia.* source", "kermany"),
    "one source in three spellings": Fault(
        table.spelled("Site A", "site-a", "SITE_A"), "missing-metadata", "spelled in several ways"
    ),
    "sources that differ by blanks": Fault(
        table.spelled("north wing", "north  wing", " north wing"), "missing-metadata", "spelled in several ways"
    ),
    "6 broken files": Fault(pictures.broken, "quarantined-scans", "6 of .* cannot be read", "kermany"),
    "3 pictures of noise": Fault(pictures.repainted(3, pictures.noise), "not-chest-x-rays", "3 noise"),
    "3 near-blanks": Fault(pictures.repainted(3, pictures.blank), "not-chest-x-rays", "3 almost blank"),
    "3 drawings": Fault(pictures.repainted(3, pictures.drawing), "not-chest-x-rays", "drawing"),
    "3 colour pictures": Fault(pictures.repainted(3, pictures.photograph), "not-chest-x-rays", "3 in colour"),
    "a strip of 1 × 60,000 pixels": Fault(pictures.repainted(1, pictures.strip), "not-chest-x-rays", "long and thin"),
    "a hip, an extremity, a CT": Fault(pictures.other_parts, "not-chest-x-rays", "unlike all", "kermany"),
    "5 scans inverted": Fault(pictures.repainted(5, pictures.inverted), "not-chest-x-rays", "inverted"),
    "5 scans inverted, kermany": Fault(
        pictures.repainted(5, pictures.inverted), "not-chest-x-rays", "inverted", "kermany"
    ),
    "5 scans turned by 90 degrees": Fault(pictures.repainted(5, pictures.turned(90)), "not-chest-x-rays", "by 90"),
    "5 scans turned by 180 degrees": Fault(pictures.repainted(5, pictures.turned(180)), "not-chest-x-rays", "by 180"),
    "5 scans turned by 90 degrees, nih": Fault(
        pictures.repainted(5, pictures.turned(90)), "not-chest-x-rays", "by 90", "nih"
    ),
    "5 scans mirrored": Fault(pictures.repainted(5, pictures.mirrored), "not-chest-x-rays", "mirror"),
    "5 scans mirrored, kermany": Fault(
        pictures.repainted(5, pictures.mirrored), "not-chest-x-rays", "mirror", "kermany"
    ),
    "exact copies across the split": Fault(
        pictures.copied_across(None), "duplicates-across-splits", _RIGHT_SPLIT, "kermany", "invalid"
    ),
    "copies turned by 3 degrees across it": _copies("turned by degrees", 3, "turned a little"),
    "copies mirrored": _copies("mirrored", 1, "mirrored"),
    "copies turned by 90 degrees": _copies("turned by quarters, degrees", 90, "turned by 90 degrees"),
    "copies cropped by 8 %": _copies("cropped on every side by a share", 0.08, "cropped"),
    "copies padded by 6 %": _copies("padded on every side by a share", 0.06, "padded"),
    "copies shifted by 5 %": _copies("shifted both ways by a share", 0.05, "shifted"),
    "copies with a caption": _copies("captioned, lines", 1, _RIGHT_SPLIT),
    "copies through 64 px": _copies("resized through pixels", 64, _RIGHT_SPLIT),
    "copies changed in three ways": _copies("three of these together, strength", 1, _RIGHT_SPLIT),
    "10 % of the scans again, recompressed": Fault(
        pictures.copied(pictures.augmented("JPEG of quality", 30), share=0.1, other=""), "near-duplicates", "repeat"
    ),
    "copies with another label": Fault(
        pictures.copied(None, share=0.04, other="label"), "label-conflict", "different labels", "kermany"
    ),
    "a letter on 70 % of a class": Fault(
        pictures.of_class(pictures.marker, 0.7), "lungs-masked-predicts-label", "bright at the top left"
    ),
    "electrodes on 70 % of a class": Fault(
        pictures.of_class(pictures.electrodes, 0.7), "lungs-masked-predicts-label", "bright at the"
    ),
    "a tube in 70 % of a class": Fault(
        pictures.of_class(pictures.tube, 0.7), "lungs-masked-predicts-label", "bright at the .*cent"
    ),
    "a rail below 70 % of a class": Fault(pictures.of_class(pictures.table_edge, 0.7), _SHOWN, "bottom|grey levels"),
    "a class of its own exposure": Fault(
        pictures.of_class(pictures.augmented("gamma", 0.5)), "metadata-predicts-label", "grey levels"
    ),
    "JPEG quality goes with the class": Fault(
        pictures.saved_anew(pictures.jpeg(30), pictures.jpeg(90)),
        "metadata-predicts-label",
        _NO_SOURCE,
        verdict="invalid",
    ),
    "size goes with the class": Fault(
        pictures.saved_anew(pictures.jpeg(90, 160), pictures.jpeg(90, 128)),
        "metadata-predicts-label",
        _NO_SOURCE,
        verdict="invalid",
    ),
    "bit depth goes with the class": Fault(
        pictures.saved_anew(pictures.png16, pictures.png8), "metadata-predicts-label", _NO_SOURCE, verdict="invalid"
    ),
    "25 and 25 told by their files": Fault(
        pictures.twenty_five, "metadata-predicts-label", _NO_SOURCE, "kermany", "invalid"
    ),
    "COVID adults and healthy children, no source": Fault(
        pictures.adults_and_children, _SHOWN, _NO_SOURCE, "kermany", "invalid"
    ),
}
# What looks like a fault and is none.
HARMLESS: dict[str, tuple[Plant, tuple[str, ...]]] = {
    "the word unknown as an id": (
        table.placeholder("unknown", 0.04),
        ("patient-across-splits", "patient-ids-doubtful", "patient-id-collision"),
    ),
}


def main(data: Path, given: Namespace) -> None:
    """Write `results/planted.md`, anew after every seed."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CXR_SSL_CACHE"] = str(Path(folder) / "cache")
        for seed in range(given.seeds):
            for base in (given.pool,) if given.pool else BASES:
                _run_on(base, seed, Path(folder) / f"{base}-{seed}")
                shutil.rmtree(Path(folder) / "cache", ignore_errors=True)
            _write(_results(), given.seeds)


def _results() -> dict[str, dict[str, Any]]:
    """What was found so far: fault, seed, what was told."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    return found | (json.loads(STORE.read_text("utf-8")) if STORE.exists() else {})


def _keep(name: str, seed: int, result: dict[str, Any]) -> None:
    """Add a result to those that are there by now: several processes may run, each on a pool of its own."""
    found = _results()
    found[name] = dict(sorted((found[name] | {str(seed): result}).items()))
    STORE.with_suffix(".tmp").write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True), "utf-8")
    STORE.with_suffix(".tmp").rename(STORE)


def _run_on(base: str, seed: int, folder: Path) -> None:
    """All faults of one clean pool that have not been tried yet."""
    planned = {f"none: {base}": None} | {name: fault for name, fault in FAULTS.items() if fault.base == base}
    planned |= {f"harmless: {name}": None for name in HARMLESS} if base == "phantoms" else {}
    found = _results()
    todo = [name for name in planned if str(seed) not in found[name]]
    if not todo:
        return
    folder.mkdir()
    clean = phantoms(folder, seed) if base == "phantoms" else real(base, seed)
    for name in dict.fromkeys([f"none: {base}", *todo]):  # the clean pool always, for its folder
        fault = planned.get(name)
        plant = fault.plant if fault else HARMLESS[name[10:]][0] if name[10:] in HARMLESS else None
        made = folder / "pictures"
        made.mkdir()
        rows = [dict(row) for row in clean]
        rows = plant(rows, np.random.default_rng(seed), made) if plant else rows
        audit = audit_rows(rows, folder, keep=plant is None, settings=fault.settings if fault else {})
        _keep(name, seed, told(audit, fault.checks if fault else ()))
        shutil.rmtree(made)
    shutil.rmtree(folder)


def told(audit: Row, checks: tuple[str, ...]) -> dict[str, Any]:
    """The verdict, what is said by the checks that must fire, and which others are not ok."""
    fired = [check for check in audit["checks"] if check["severity"] != "ok"]
    said = [_in_full(check) for check in fired if check["id"] in checks]
    others = {check["id"]: check["message"][:200] for check in fired if check["id"] not in checks}
    return {"verdict": audit["verdict"], "said": said, "others": others}


def _in_full(check: Row) -> str:
    notes = Counter(str(row["note"]) for row in check["evidence"])
    return f"{check['message']} | {'; '.join(list(notes)[:4])}"


def is_caught(fault: Fault, result: dict[str, Any]) -> bool:
    """Whether a check that must fire fired, and the verdict is as it must be."""
    return bool(result["said"]) and fault.verdict in (None, result["verdict"])


def is_right(fault: Fault, result: dict[str, Any]) -> bool:
    """Whether it was caught for the right reason."""
    return is_caught(fault, result) and any(re.search(fault.reason, text, re.IGNORECASE) for text in result["said"])


def accused(name: str, result: dict[str, Any]) -> set[str]:
    """Checks that fired on a pool without a fault."""
    fired = set(result["others"])
    if name.startswith("harmless: "):
        return fired & set(HARMLESS[name[10:]][1])
    return fired if name == "none: phantoms" else fired & set(OURS)


def _write(found: dict[str, dict[str, Any]], seeds: int) -> None:
    rows: list[tuple[str, ...]] = []
    total = np.zeros(3, np.int64)
    for name, fault in FAULTS.items():
        results = list(found[name].values())
        counts = [sum(is_caught(fault, one) for one in results), sum(is_right(fault, one) for one in results)]
        total += (*counts, len(results))
        rows.append((name, " or ".join(fault.checks), *(f"{num} of {len(results)}" for num in counts)))
    num_pools, num_accused = 0, 0
    for name in (name for name in found if name.startswith(("none: ", "harmless: "))):
        fired = [accused(name, one) for one in found[name].values()]
        counted = ", ".join(f"{check} {num}" for check, num in Counter(c for some in fired for c in some).items())
        num_pools, num_accused = num_pools + len(fired), num_accused + sum(map(bool, fired))
        rows.append((name, counted or "none fired", f"{sum(map(bool, fired))} of {len(fired)} accused", "–"))
    caught, right, num = total.tolist()
    tables.write(
        "planted",
        "Faults as people make them, planted one at a time",
        f"python -m tests.bench planted --seeds {seeds}",
        ("fault planted", "check", "caught", "right reason"),
        rows,
        f"{len(FAULTS)} faults in phantom pools of {NUM_PATIENTS} patients and samples of {NUM_REAL} real scans at "
        f"{SIDE_PX} px: {_share(caught, num)} caught, {_share(right, num)} for the right reason; "
        f"{_share(num_accused, num_pools)} of the clean or harmless pools accused. Of a clean phantom pool every check "
        f"counts; of real scans, which have faults of their own, {', '.join(OURS)}. Intervals: Wilson, 95 %.",
    )


def _share(part: int, total: int) -> str:
    low, high = bootstrap.wilson(part / total, total, 1.96)
    return f"{part} of {total} ({part / total:.1%}, {low:.1%} to {high:.1%})"


def audit_rows(rows: list[Row], folder: Path, *, keep: bool, settings: dict[str, Any]) -> Row:
    """The audit of a manifest of these rows, in a copy of the clean pool's folder, or kept as that folder."""
    path, out, clean = folder / "manifest.csv", folder / "out", folder / "clean"
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as stream:
        table_ = csv.DictWriter(stream, names, lineterminator="\n", restval="")
        table_.writeheader()
        table_.writerows(rows)
    if clean.exists():
        shutil.copytree(clean, out)
    content = audited(str(path), out, **(SETTINGS | settings))
    if keep and not clean.exists():
        out.rename(clean)
    else:
        shutil.rmtree(out)
    return content


def phantoms(folder: Path, seed: int) -> list[Row]:
    """Rows of a clean phantom pool of three classes, split by patient."""
    from pipeline.contracts.config import PoolConfig
    from pipeline.pool.sources import open_pool

    uri = f"phantom:num_patients={NUM_PATIENTS},size_px=128,seed={seed}"
    scans = open_pool(PoolConfig(uri=uri), folder / "phantoms").scans
    names = {"image_path": "uri", "label": "label", "patient_id": "patient_id", "source": "source", "age": "age_years"}
    names |= {"sex": "sex", "view": "view", "official_split": "pool_split"}
    rows = [
        dict(zip(names, values, strict=True))
        for values in zip(*(scans[n].to_pylist() for n in names.values()), strict=True)
    ]
    rows = [row for row in rows if row["label"] != "nodule"]  # too few of them: a fault by itself
    number = {patient: i for i, patient in enumerate(sorted({row["patient_id"] for row in rows} - {None}))}
    for row in rows:
        place = number.get(row["patient_id"], len(number))
        row |= {"patient_id": f"x{place}", "official_split": "test" if place % 4 == 0 else "train"}
        row |= {key: "" for key, value in row.items() if value is None}
    return rows


def real(name: str, seed: int) -> list[Row]:
    """A sample of Kermany or of covid3's scans of one source, without a split."""
    rows = pools.rows("kermany" if name == "kermany" else "covid3")
    rows = [row for row in rows if name == "kermany" or row["source"] == pools.NIH]
    chosen = np.random.default_rng(seed).choice(len(rows), NUM_REAL, replace=False)
    return [{k: v for k, v in rows[i].items() if k != "official_split"} for i in chosen]
