"""A run's classifier on another pool: what that pool has in common with training is taken out first."""

import datetime as dt
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings import backbones
from pipeline import stages
from pipeline.audit import stage
from pipeline.contracts import config_file
from pipeline.contracts.config import KNOWN_COLUMNS, Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST, write_text
from pipeline.evidence.stage import Scored, detailed
from pipeline.labels.classes import positive_among
from pipeline.learn.classifier import Classifier
from pipeline.learn.network import predict_scans
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext, cache_folder
from pipeline.stages import READ_WITHOUT_SPLIT


@dataclass(frozen=True)
class Seen:
    """Scans of another pool that the run knows already, from training or from its holdout."""

    num_shared_patients: int
    num_copies: int
    ids: frozenset[str]


def external(ctx: StageContext, pool: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """The run's last model on another pool; scans that the run knows already are left out and counted."""
    folder = ctx.folder / run_files.EXTERNAL / _name_of(pool)
    there = StageContext(_config_there(ctx.folder, pool, overrides), folder, ctx.engine, ctx.progress)
    begun = folder.exists()
    try:
        run_dir.write_config(folder, there.config)
        stages.run_stages(there, READ_WITHOUT_SPLIT)
        return _tested(ctx, there, pool)
    except InputError:
        if not begun:
            shutil.rmtree(folder, ignore_errors=True)  # nothing was found out: no trace of a mistyped pool
        raise


def _config_there(home: Path, pool: str, overrides: dict[str, Any]) -> Config:
    """The run's configuration for another pool; its column names only where they fit there."""
    from pipeline.pool.sources import open_pool

    plain: dict[str, Any] = {
        "pool.uri": pool,
        "pool.findings": None,
        "pool.positive": None,
        "oracle": False,
        "splits.holdout_source": None,
    }
    here = config_file.load(home / run_files.RESOLVED).pool
    if here.finding is not None:  # of the columns of all findings, that of this one
        kept = {name: own for name, own in here.columns.items() if name in (*KNOWN_COLUMNS, here.finding)}
        plain["pool.columns"] = kept
    pretrained = run_files.path(home, run_files.PRETRAINED)
    if (pretrained / backbones.CARD).exists():  # it is used, not made again
        plain |= {"pretrain.epochs": 0, "backbone.name": str(pretrained.absolute()), "backbone.weights": None}
    config = config_file.load(home / run_files.RESOLVED, plain | overrides)
    try:
        open_pool(config.pool, cache_folder())
    except InputError:
        other = plain | {"pool.columns": {}, "pool.patient_regex": None} | overrides
        config = config_file.load(home / run_files.RESOLVED, other)
        open_pool(config.pool, cache_folder())
    return config


def _tested(ctx: StageContext, there: StageContext, pool: str) -> dict[str, Any]:
    from pipeline.audit.audited_pool import open_subject

    folder = there.folder
    audited = stage.examine(there, stage.POOL)
    stage.write(folder, audited)
    subject = open_subject(there)
    seen = already_seen(ctx, folder)
    scored, left_out, num_other = _scored_there(ctx, there, subject, seen)
    scope = {
        "kind": "external",
        "pool": pool,
        "round": run_files.last_round(ctx.folder),
        "read": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    evaluation = detailed(ctx, scored, subject, scope) | {
        "audit": {
            "num_shared_patients": seen.num_shared_patients,
            "num_copies": seen.num_copies,
            "num_left_out": left_out,
            "num_other_classes": num_other,
            "verdict": audited["verdict"],
        }
    }
    write_text(folder / run_files.EVALUATION, json.dumps(evaluation, indent=1))
    return evaluation


def already_seen(ctx: StageContext, there: Path) -> Seen:
    """Scans of a pool whose patient or picture is also in the run: an external test is of what it has never seen."""
    from pipeline.pool.duplicates import near_links_between

    own_scans, other_scans = _usable(ctx.folder), _usable(there)
    patients = own_scans["patient_id"].drop_null().combine_chunks()
    shared = other_scans.filter(pc.is_in(other_scans["patient_id"], value_set=patients))
    near = near_links_between(own_scans, other_scans, ctx.engine, ctx.config.duplicates, ctx.config.pool.max_pixels)
    copies = {other_scans["image_id"][int(row)].as_py() for row in near}
    num_patients = len(pc.unique(shared["patient_id"]))
    return Seen(num_patients, len(copies), frozenset(copies | set(shared["image_id"].to_pylist())))


def _usable(folder: Path) -> pa.Table:
    manifest = run_files.read(folder, MANIFEST)
    return manifest.filter(pc.equal(manifest["status"], "ok"))


def _scored_there(ctx: StageContext, there: StageContext, subject: Any, seen: Seen) -> tuple[Scored, int, int]:
    """The labelled scans of a pool as the run's model sees them; how many it knew or cannot name."""
    home = ctx.folder
    model = Classifier.load(run_files.round_folder(home, run_files.last_round(home) or 0) / run_files.MODEL)
    _same_input(home, there)
    index = {finding: c for c, finding in enumerate(model.findings)}
    labelled = [row for row in subject.labelled if subject.has_emb_N[row]]
    known = [row for row in labelled if subject.label_N[row] in index]
    rows = np.array([row for row in known if subject.image_id_N[row] not in seen.ids], dtype=np.int64)
    if len(rows) == 0:
        raise InputError(
            f"none of its {len(labelled)} labelled scans can be scored: classes {list(subject.findings)}, "
            f"{len(seen.ids)} scans known from the run itself",
            where=subject.config.pool.uri,
            fix=f"give scans labelled {', '.join(model.findings)}",
        )
    logit_SC = _logits(there, model, subject, rows)
    prob_SC = model.probabilities(logit_SC)
    scored = Scored(
        findings=model.findings,
        positive=positive_among(ctx.config.pool, model.findings),
        ids_S=[str(subject.image_id_N[row]) for row in rows],
        group_S=[str(subject.group_N[row]) for row in rows],
        class_S=np.array([index[subject.label_N[row]] for row in rows], dtype=np.int64),
        prob_SC=np.asarray(prob_SC, dtype=np.float64),
        predicted_S=model.classes(prob_SC).astype(np.int64),
    )
    return scored, len(known) - len(rows), len(labelled) - len(known)


def _same_input(home: Path, there: StageContext) -> None:
    """Refuse to score a model on what another backbone, or another size, makes of the scans."""
    cards = (run_files.path(folder, run_files.BACKBONE) for folder in (home, there.folder))
    own_card, other_card = (json.loads(card.read_text("utf-8")) for card in cards)
    options = (("weights_hash", "backbone"), ("normalisation", "backbone.mean"), ("pooling", "backbone.pooling"))
    for key, where in (*options, ("size_px", "preprocess.size_px")):
        own, other = own_card.get(key), other_card.get(key)
        if own != other:
            raise InputError(
                f"the run's model was made for another input: {key} {own}, here it is {other}",
                value=str(other),
                where=where,
                fix="leave these options to the run's own configuration",
            )


def _logits(there: StageContext, model: Classifier, subject: Any, rows: np.ndarray) -> np.ndarray:
    """Logits (S, C) of a pool's scans: a head sees their embeddings, a network the scans."""
    if not isinstance(model.model, Path):
        return model.logits(subject.embeddings(rows))
    manifest = run_files.read(there.folder, MANIFEST)
    place = pc.index_in(pa.array(subject.image_id_N[rows]), value_set=manifest["image_id"].combine_chunks())
    return predict_scans.predict(there, model.model, manifest["uri"].take(place).to_pylist(), "logit")


def _name_of(pool: str) -> str:
    """A folder's name for a pool: readable, and its own for every URI."""
    import hashlib

    path = pool.rstrip("/").removesuffix("/manifest.csv").removesuffix(f"/{MANIFEST.file}")
    words = re.sub(r"[^A-Za-z0-9]+", "-", path.rsplit("/", 1)[-1]).strip("-")[:40] or "pool"
    return f"{words}-{hashlib.sha256(pool.encode()).hexdigest()[:6]}"
