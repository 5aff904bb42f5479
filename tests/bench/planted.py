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
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.measures import bootstrap
from tests.bench import pools, tables
from tests.bench.audit import audited
from tests.bench.planted_faults import FAULTS, HARMLESS, Fault
from tests.bench.planted_labels import oracle
from tests.bench.planted_rows import Row

NUM_PATIENTS, SIDE_PX, NUM_REAL = 200, 96, 300
SETTINGS = {
    "preprocess.size_px": SIDE_PX,
    "audit.num_bootstrap": 50,
    "audit.max_scans": 300,
    "audit.max_equalised_scans": 0,
    "duplicates.changed": False,
}
# The checks that count on clean real scans; these scans have true faults, which others have to find.
OURS = (
    *("not-chest-x-rays", "labels-look-wrong", "patient-ids-doubtful", "classes-differ-across-splits"),
    *("duplicates-across-splits", "duplicates-across-patients", "label-conflict", "patient-across-splits"),
    *("source-label-confounding", "class-imbalance", "too-few-cases", "quarantined-scans", "near-duplicates"),
)
BASES = ("phantoms", "kermany", "nih")
# Of clean pools, by seed: what is said of scans that were looked at and are as the audit says.
HALF_AN_ARM = "no_finding-00002482_001 (an upper arm with half a chest)"
UPSIDE_DOWN = "no_finding-00003490_011 (a chest upside down)"
TRUE_FAULTS = {
    ("none: nih", "1"): ("1 unlike all the others.", HALF_AN_ARM),
    ("none: nih", "3"): ("1 unlike all the others.", HALF_AN_ARM),
    ("none: nih", "4"): ("1 turned by 180 degrees.", UPSIDE_DOWN),
    ("none: nih", "5"): ("1 turned by 180 degrees.", UPSIDE_DOWN),
}
STORE = tables.RESULTS / "planted.json"


def main(data: Path, options: Namespace) -> None:
    """Write `results/planted.md`, anew after every seed."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CXR_SSL_CACHE"] = str(Path(folder) / "cache")
        for seed in range(options.seeds):
            for base in (options.pool,) if options.pool else BASES:
                _run_on(base, seed, Path(folder) / f"{base}-{seed}")
                shutil.rmtree(Path(folder) / "cache", ignore_errors=True)
            _write(_results(), options.seeds)


def _results() -> dict[str, dict[str, Any]]:
    """Results so far, by fault and seed."""
    results_of: dict[str, dict[str, Any]] = defaultdict(dict)
    return results_of | (json.loads(STORE.read_text("utf-8")) if STORE.exists() else {})


def _keep(name: str, seed: int, result: dict[str, Any]) -> None:
    """Add a result to those that are there by now: several processes may run, each on a pool of its own."""
    results_of = _results()
    results_of[name] = dict(sorted((results_of[name] | {str(seed): result}).items()))
    STORE.with_suffix(".tmp").write_text(json.dumps(results_of, indent=1, ensure_ascii=False, sort_keys=True), "utf-8")
    STORE.with_suffix(".tmp").rename(STORE)


def _run_on(base: str, seed: int, folder: Path) -> None:
    """All faults of one clean pool that have not been tried yet."""
    planned = {f"none: {base}": None} | {name: fault for name, fault in FAULTS.items() if fault.base == base}
    planned |= {f"oracle: {base}": None}
    planned |= {f"harmless: {name}": None for name in HARMLESS} if base == "phantoms" else {}
    results_of = _results()
    todo = [name for name in planned if str(seed) not in results_of[name]]
    if not todo:
        return
    folder.mkdir()
    clean = phantoms(folder, seed) if base == "phantoms" else real(base, seed)
    for name in dict.fromkeys([f"none: {base}", *todo]):  # the clean pool always, for its folder
        if name.startswith("oracle: "):
            _keep(name, seed, oracle(folder / "clean", np.random.default_rng(seed)))
            continue
        fault = planned.get(name)
        plant = fault.plant if fault else HARMLESS[name[10:]][0] if name[10:] in HARMLESS else None
        made = folder / "pictures"
        made.mkdir()
        rows = [dict(row) for row in clean]
        rows = plant(rows, np.random.default_rng(seed), made) if plant else rows
        audit = audit_rows(rows, folder, keep=plant is None, settings=fault.settings if fault else {})
        _keep(name, seed, summary(audit, fault.checks if fault else ()))
        shutil.rmtree(made)
    shutil.rmtree(folder)


def summary(audit: Row, checks: tuple[str, ...]) -> dict[str, Any]:
    """The verdict, what is said by the checks that must fire, and which others are not ok."""
    fired = [check for check in audit["checks"] if check["severity"] != "ok"]
    messages = [_in_full(check) for check in fired if check["id"] in checks]
    others = {check["id"]: check["message"][:200] for check in fired if check["id"] not in checks}
    return {"verdict": audit["verdict"], "messages": messages, "others": others}


def _in_full(check: Row) -> str:
    notes = Counter(str(row["note"]) for row in check["evidence"])
    return f"{check['message']} | {'; '.join(list(notes)[:4])}"


def is_caught(fault: Fault, result: dict[str, Any]) -> bool:
    """Whether a check that must fire fired, and the verdict is as it must be."""
    return bool(result["messages"]) and fault.verdict in (None, result["verdict"])


def is_right(fault: Fault, result: dict[str, Any]) -> bool:
    """Whether it was caught for the right reason."""
    return is_caught(fault, result) and any(re.search(fault.reason, text, re.IGNORECASE) for text in result["messages"])


def accused(name: str, result: dict[str, Any]) -> set[str]:
    """Checks that fired on a pool without a fault."""
    fired = set(result["others"])
    if name.startswith("harmless: "):
        return fired & set(HARMLESS[name[10:]][1])
    return fired if name == "none: phantoms" else fired & set(OURS)


def has_true_fault(name: str, seed: str, result: dict[str, Any]) -> bool:
    """Whether all that is said of a clean pool is about a scan that was looked at and is as the audit says."""
    message, _ = TRUE_FAULTS.get((name, seed), ("", ""))
    text = result["others"].get("not-chest-x-rays", "")
    return bool(message) and accused(name, result) == {"not-chest-x-rays"} and text.endswith(f"X-ray: {message}")


def _write(results_of: dict[str, dict[str, Any]], seeds: int) -> None:
    rows: list[tuple[str, ...]] = []
    total = np.zeros(3, np.int64)
    for name, fault in FAULTS.items():
        results = list(results_of[name].values())
        counts = [
            sum(is_caught(fault, result) for result in results),
            sum(is_right(fault, result) for result in results),
        ]
        total += (*counts, len(results))
        rows.append((name, " or ".join(fault.checks), *(f"{num} of {len(results)}" for num in counts)))
    num_pools, num_accused, num_true = 0, 0, 0
    for name in (name for name in results_of if name.startswith(("none: ", "harmless: "))):
        of_name = results_of[name]
        rightly = sum(has_true_fault(name, seed, result) for seed, result in of_name.items())
        checks = [accused(name, result) for result in of_name.values()]
        wrongly = sum(map(bool, checks)) - rightly
        counted = ", ".join(f"{check} {num}" for check, num in Counter(c for some in checks for c in some).items())
        num_pools, num_accused, num_true = num_pools + len(checks), num_accused + wrongly, num_true + rightly
        true = f", {rightly} rightly" if rightly else ""
        rows.append((name, counted or "none fired", f"{wrongly} of {len(checks)} wrongly accused{true}", "–"))
    caught, right, num = total.tolist()
    tables.write(
        "planted",
        "Faults as people make them, planted one at a time",
        f"python -m tests.bench planted --seeds {seeds}",
        ("fault planted", "check", "caught", "right reason"),
        rows,
        f"{len(FAULTS)} faults in phantom pools of {NUM_PATIENTS} patients and samples of {NUM_REAL} real scans at "
        f"{SIDE_PX} px: {_share(caught, num)} caught, {_share(right, num)} for the right reason; "
        f"{_share(num_accused, num_pools)} of the clean or harmless pools wrongly accused, {num_true} more "
        f"for a scan that was looked at and is as the audit says: {_true_scans()}. Of a clean phantom pool every check "
        f"counts; of real scans, which have faults of their own, {', '.join(OURS)}. Intervals: Wilson, 95 %. "
        f"{_oracles(results_of)}",
    )


def _true_scans() -> str:
    return " and ".join(dict.fromkeys(scan for _, scan in TRUE_FAULTS.values()))


def _oracles(results_of: dict[str, dict[str, Any]]) -> str:
    """What part of the planted wrong labels the vectors can show at all."""
    parts = []
    for base in BASES:
        results = list(results_of[f"oracle: {base}"].values())
        parts += [f"{base}: {' and '.join(_mean_part(results, share) for share in results[0])}"] if results else []
    return (
        "Wrong labels that can be found at all, among as many scans as have one, by a probe of the right labels: "
        f"{'; '.join(parts)}."
    )


def _mean_part(results: list[dict[str, float]], share: str) -> str:
    return f"{tables.mean_ci([result[share] for result in results], 2)} of {share} wrong"


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
    from pipeline.contracts.options.scans import PoolConfig
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
