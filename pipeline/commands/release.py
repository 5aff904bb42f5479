"""Pseudo-labels that others may use: the certified tier of a frozen release, with its certificate.

Of independent findings each has a release; what is certified of any of them is written into one table.
"""

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.spreadsheet import defused_table
from pipeline.contracts.tables import MANIFEST, write_bytes, write_parquet, write_text
from pipeline.labels import label_table, verdicts
from pipeline.labels.classes import findings_of
from pipeline.learn.releases import check_planning, frozen_content, frozen_release
from pipeline.learn.releases.frozen_release import WHOLE, Release
from pipeline.pages.wording import place as end_of_path
from pipeline.per_finding import releases as finding_releases
from pipeline.pool.burned_in import scans as burned_in
from pipeline.runtime import finding_folders, run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.run_dir import config_of

BUDGETS = (100, 234, 500)  # labels of the planning table
SCOPE = (
    "Precision of these proposals, for these scans of this pool alone; not of other pools, not of what the model says "
    "of other scans, and not of one class by itself. Scans with text burnt in are left out unless "
    "pool.allow_burned_in_text is set; `certified_precision` of the others allows for that."
)
SCOPE_OF_SEVERAL = (
    "The certificate of each finding holds by itself. Of several at once only the bounds under `together` hold, with "
    "the confidence named there."
)


def write_release(folder: Path, out: Path | None) -> dict[str, Any]:
    """Write the certified pseudo-labels of a run and their certificate.

    Args:
        folder: Run directory.
        out: A new .csv or .parquet file; default `release.csv` in the folder of the release, of independent findings
            in `releases`. The certificate lies beside it, named after it with `.json`.

    Returns:
        {"out", "certificate_file", "certificate"}; of independent findings the certificate has those of all `findings`.

    Raises:
        RunDirError: nothing was frozen, or `out` exists already.
        InputError: the promise is not certified, scans or proposals changed since, or `out` is of another format.
    """
    config = config_of(folder)
    if finding_folders.parts_in(folder):
        table, certificate = _of_findings(folder, config)
        place = _checked_place(out, folder / run_files.RELEASES)
    else:
        release = _frozen(folder, config)
        state = _state(folder, config)
        _refuse_changed(folder, release)
        _refuse_uncertified(folder, state)
        table, certificate = _labels(folder, release, state), state | {"scope": SCOPE}
        certificate["num_released"] = len(table)
        place = _checked_place(out, run_files.release_folder(folder, release.card["number"]))
    certificate |= {"pool": end_of_path(config.pool.uri), "date": datetime.now(UTC).date().isoformat()}
    certificate_file = place.with_suffix(".json") if out else place.with_name("certificate.json")
    with run_dir.kept(folder):
        if place.suffix == ".csv":
            sink = pa.BufferOutputStream()
            csv.write_csv(defused_table(table), sink)
            write_bytes(place, sink.getvalue().to_pybytes())
        else:
            write_parquet(place, table)
        write_text(certificate_file, json.dumps(certificate, indent=1) + "\n")
    return {"out": str(place), "certificate_file": str(certificate_file), "certificate": certificate}


def _checked_place(out: Path | None, default_folder: Path) -> Path:
    if out is not None and out.exists():
        raise RunDirError("the file exists already", value=str(out), where="--out", fix="name a new one")
    place = out or default_folder / "release.csv"
    if place.suffix not in (".csv", ".parquet"):
        raise InputError("is no format of a release", value=str(place), where="--out", fix="end it with .csv, .parquet")
    return place


def _of_findings(folder: Path, config: Config) -> tuple[pa.Table, dict[str, Any]]:
    """What is certified of any finding as one table, and the certificates of all.

    Raises:
        RunDirError: no finding has a release.
        InputError: none is certified, or what was frozen has changed.
    """
    parts, frozen = finding_folders.parts_in(folder), finding_releases.frozen(folder)
    if not frozen:
        fix = why_none(next(iter(parts.values())), config, check_planning.freezing_round(config))
        raise RunDirError("no release was frozen of any finding", value=str(folder), where="RUN", fix=fix)
    states = {finding: _state(parts[finding], config_of(parts[finding])) for finding in frozen}
    for finding, release in frozen.items():
        _refuse_changed(parts[finding], release)
    refused = {finding: text for finding, state in states.items() if (text := _why_not_certified(state))}
    tables = {
        finding: _as_values(_labels(parts[finding], release, states[finding]), finding)
        for finding, release in frozen.items()
        if finding not in refused
    }
    if not tables:
        raise InputError(
            "no finding is certified: " + "; ".join(f"{finding}: {text}" for finding, text in refused.items()),
            where=folder,
            fix="go on with `cxr-ssl run --out RUN --resume`; `cxr-ssl status` names the checks that are still needed",
        )
    whole = pa.concat_tables(tables.values())
    return whole, {
        "num_released": len(whole),
        "scope": f"{SCOPE} {SCOPE_OF_SEVERAL}",
        "findings": {finding: states[finding] | {"num_released": len(table)} for finding, table in tables.items()},
        "not_certified": refused | {f: "nothing was frozen" for f in parts if f not in frozen},
        "together": finding_releases.together(folder),
    }


def _as_values(table: pa.Table, finding: str) -> pa.Table:
    """Proposals of one finding with its name, and 1 where it is proposed to be there, 0 where not."""
    value = pc.cast(pc.equal(table["finding"], finding), pa.float32())
    place = table.column_names.index("finding")
    named = table.set_column(place, "finding", pa.array([finding] * len(table), pa.string()))
    return named.add_column(place + 1, "value", value)


def standing(folder: Path, config: Config) -> dict[str, Any]:
    """What a run can say of its release before anybody asks for it.

    Returns:
        {"state","release","freeze_after","promise","checks_planned","checks_needed","plan","can_promise","why"}:
        `state` is `none` before freezing; `freeze_after` the round that would freeze; `can_promise` what 100, 234 and
        500 labels can certify with `release.run_share` of checks; `why` a reason where none is frozen. Of independent
        findings also {"findings","together"}: the same of each, and what holds of all at once.
    """
    parts = finding_folders.parts_in(folder)
    state = None if parts or not run_files.releases(folder) else _state(folder, config)
    due = check_planning.freezing_round(config)
    share, confidence = config.release.run_share, config.pseudo.confidence
    plan = list(check_planning.plan_of(config))
    facts = {
        "state": "none" if state is None else state["state"],
        "release": state,
        "freeze_after": due,
        "promise": config.release.promise if state is None else state["promise"],
        "checks_planned": check_planning.checks_a_queue(config) * (config.rounds.num - due) if due else 0,
        "checks_needed": plan[0] if state is None else state["checks_needed"],
        "plan": plan,
        "can_promise": check_planning.planning_table(BUDGETS, share, confidence),
        "why": None if state or finding_releases.frozen(folder) else why_none(folder, config, due),
    }
    if not parts:
        return facts
    of_parts = {finding: standing(part, config_of(part)) for finding, part in parts.items()}
    return facts | {"findings": of_parts, "together": finding_releases.together(folder)}


def why_none(folder: Path, config: Config, due: int | None) -> str:
    """Why a run, or one finding of it, has no frozen release.

    Args:
        folder: Its folder.
        config: Its configuration.
        due: The round that freezes, see `check_planning.freezing_round`.
    """
    if config.release.freeze_round == 0:
        return "release.freeze_round is 0"
    if due is None:
        clean = check_planning.plan_of(config)[0]
        num_labels = config.rounds.num * config.queue.budget
        return (
            f"{clean} clean checks are more than {config.release.run_share:.0%} of {num_labels} labels "
            f"(release.run_share), or than the queues have room for; ask for more rounds, a larger queue.budget, or "
            f"set release.freeze_round"
        )
    accepted = {row["round"]: row["num_accepted"] for row in run_dir.read_metrics(folder)}
    if config.release.freeze_round is not None:
        later = max([due, *(number + 1 for number in accepted)])
        return f"the first round from {later} on that accepts something freezes it (release.freeze_round)"
    if due not in accepted:
        return f"round {due} freezes what it accepts, and is not finished"
    if not accepted[due]:
        return f"round {due} was to freeze what it accepts, and accepted nothing"
    return (
        f"round {due} of {config.rounds.num} is the one that freezes, and froze nothing: it was finished before the "
        "run had so many rounds; with more of them (--rounds) a later one freezes"
    )


def _frozen(folder: Path, config: Config) -> Release:
    release = frozen_release.load(folder)
    if release is None:
        fix = why_none(folder, config, check_planning.freezing_round(config))
        raise RunDirError("no release was frozen", value=str(folder), where="RUN", fix=fix)
    if len(release.table) == 0:
        raise InputError("the frozen release is empty", where=folder, fix="start again; nothing can be certified")
    return release


def _refuse_changed(folder: Path, release: Release) -> None:
    number = release.card["number"]
    if frozen_content.release_hash(release.table) != release.card["hash"]:
        raise InputError(
            "the proposals changed since they were frozen",
            where=run_files.release_folder(folder, number),
            fix="bring the folder back from a backup; what was checked is not what would be released",
        )
    changed = frozen_content.scans_changed(folder, release)
    if changed:
        raise InputError(
            f"{len(changed)} scans of the release changed since it was frozen",
            value=changed[0],
            where=folder,
            fix="put the old files back; what was checked is not what would be released",
        )


def _refuse_uncertified(folder: Path, state: dict[str, Any]) -> None:
    text = _why_not_certified(state)
    if text is None:
        return
    needed = state["checks_needed"]
    fix = (
        "a new release is frozen when the rounds left can pay for it"
        if needed is None
        else f"{needed} further checks without an error would certify it: go on with `cxr-ssl run --out RUN --resume`"
    )
    raise InputError(text, where=folder, fix=fix)


def _why_not_certified(state: dict[str, Any]) -> str | None:
    """What the checks so far prove, where that is not the promise; None where a tier is certified."""
    if state["certified_tier"] is not None:
        return None
    first, needed = state["tiers"][0], state["checks_needed"]
    return (
        f"the promise of {state['promise']:g} is not certified: {first['num_errors']} errors in "
        f"{first['num_checked']} checks prove {first['bound']:.4f}, and "
        + ("no number of checks can certify it any more" if needed is None else f"{needed} more clean ones are needed")
    )


def _state(folder: Path, config: Config) -> dict[str, Any]:
    """The state of the release of a run, or of one of its findings, by the labels of now."""
    if config.pool.finding is not None:
        answers = finding_releases.answers_of(run_files.home(folder), config.pool.finding)
    else:
        findings = findings_of(StageContext(config, folder, SerialEngine()))
        answers = verdicts.expert_classes(label_table.read(folder), findings)
    state = frozen_release.state_of(folder, answers)
    assert state is not None, "somebody found a release here"
    return state


def _labels(folder: Path, release: Release, state: dict[str, Any]) -> pa.Table:
    """The certified proposals with what others need to use them, without scans that may not be handed on."""
    table = release.table.sort_by("image_id")
    if state["certified_tier"] != WHOLE:
        table = table.filter(pc.equal(table["tier"], state["certified_tier"]))
    manifest = run_files.read(folder, MANIFEST, ["image_id", "patient_id", "path"])
    kept_back = burned_in.kept_back(folder, config_of(folder).pool, table["image_id"].to_pylist())
    bound = {
        tier["tier"]: _of_those_left(tier["bound"], release.ids_of[tier["tier"]], kept_back)
        for tier in state["tiers"]
        if tier["holds"]
    }
    table = table.filter(pc.invert(pc.is_in(table["image_id"], value_set=pa.array(sorted(kept_back), pa.string()))))
    place = pc.index_in(table["image_id"], value_set=manifest["image_id"].combine_chunks())
    precision = [bound.get(tier, bound.get(WHOLE)) for tier in table["tier"].to_pylist()]
    return pa.table(
        {
            "image_id": table["image_id"],
            "patient_id": manifest["patient_id"].take(place),
            "path": manifest["path"].take(place),
            "finding": table["finding"],
            "probability": table["probability"],
            "tier": table["tier"],
            "certified_precision": pa.array(precision, pa.float64()),
            "release_hash": [release.card["hash"]] * len(table),
        }
    )


def _of_those_left(bound: float, image_ids: Sequence[str], kept_back: Collection[str]) -> float:
    """The precision certified of a tier's scans without those that are kept back.

    All errors that the certificate leaves room for may lie among those that stay: of N scans with a precision of p or
    more, M kept back, the N - M others have one of 1 - (1 - p) N / (N - M) or more.
    """
    num_left = sum(image_id not in kept_back for image_id in image_ids)
    return bound if num_left == len(image_ids) else max(0.0, 1 - (1 - bound) * len(image_ids) / max(num_left, 1))
