"""What `cxr-ssl audit` and `cxr-ssl evaluate` do: a pool's audit, a run on another pool, two runs side by side."""

import datetime as dt
import json
import logging
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings import backbones
from pipeline import audit, config_file, evaluate, predict, run_dir, runs, stages
from pipeline.config import KNOWN_COLUMNS, Config
from pipeline.context import StageContext, cache_folder
from pipeline.contracts import MANIFEST, write_text
from pipeline.engine import SerialEngine, make_engine
from pipeline.errors import InputError, RunDirError
from pipeline.evaluation import Scored, detailed, holdout, last_round
from pipeline.models import Classifier
from pipeline.runs import Request
from pipeline.several.layout import refuse_part, whole_of
from pipeline.tracking import Progress

log = logging.getLogger(__name__)
READ = ("manifest", "duplicates", "splits", "embed", "clusters")
READ_WITHOUT_SPLIT = ("manifest", "duplicates", "embed")
COMPARISON, EXTERNAL = "comparison.json", "external"


def audit_pool(request: Request) -> dict[str, Any]:
    """Audit a pool, or the run in a folder; returns `audit.json` with {"out","report"}. Never raises for a verdict.

    Raises:
        InputError: the pool cannot be read, or the folder holds something else.
    """
    from pipeline.audit import overrides

    uri = str(request.overrides.get("pool.uri", ""))
    is_run = bool(uri) and run_dir.is_run(Path(uri))
    out, config = _of_a_run(request, Path(uri).absolute()) if is_run else _of_a_pool(request, uri)
    engine = make_engine(config.engine)
    with run_dir.locked(out):
        if not is_run:
            run_dir.write_config(out, config)
        overrides.add(out, list(request.accept))
        with Progress(quiet=request.quiet) as progress:
            try:
                ctx = StageContext(config, out, engine, progress)
                if not is_run:
                    _read(ctx)
                _audit(ctx, is_run=is_run)
            finally:
                engine.close()
        found = audit.read(out) or {}
        if not is_run:
            run_dir.write_status(out, "blocked" if found["blocking"] else "done", "audit")
    return found | {"out": str(out), "report": str(out / "report" / "audit.html")}


def _audit(ctx: StageContext, *, is_run: bool) -> None:
    from pipeline.several import audit as audits
    from pipeline.several import folders

    phase = audit.FINAL if is_run else audit.POOL
    if not ctx.config.pool.asks_several:
        audit.write(ctx.folder, audit.examine(ctx, phase))
        if is_run:
            audit.conclude(ctx)
        return
    audit.write(ctx.folder, audits.examine(ctx, phase))
    if is_run:
        for part in folders.parts_of(ctx).values():
            audit.conclude(part)
        audits.conclude(ctx)


def _of_a_run(request: Request, folder: Path) -> tuple[Path, Config]:
    if request.out is not None:
        raise InputError("a run is audited in its own folder", where="--out", fix="leave --out away")
    refuse_part(folder)
    given = {key: value for key, value in request.overrides.items() if key != "pool.uri"}
    return folder, runs.load_config(replace(request, overrides=given, resume=True, out=folder), folder)


def _of_a_pool(request: Request, uri: str) -> tuple[Path, Config]:
    """A folder for the audit of this pool alone, and its configuration, which no earlier audit has a part in."""
    out = (request.out or Path("runs") / f"audit-{runs.next_number('audit')}").absolute()
    run_dir.refuse_foreign(out)
    if run_dir.is_run(out):
        before = runs.config_of(out).pool.uri
        if (out / "rounds").exists():
            raise RunDirError(
                "holds a run", where=out, fix=f"audit it with `cxr-ssl audit {out}`, or name another --out"
            )
        if not _same_pool(before, uri):
            raise RunDirError("holds the audit of another pool", value=before, where=out, fix="name another --out")
    return out, runs.load_config(replace(request, resume=False), out)


def _same_pool(one: str, other: str) -> bool:
    return one == other or Path(one).resolve() == Path(other).resolve()


def _read(ctx: StageContext) -> None:
    """What an audit needs of a pool: its scans, copies, vectors, and a split if one can be drawn."""
    try:
        stages.run_stages(ctx, READ)
    except InputError as error:
        if error.where != "splits":
            raise
        log.warning("no split can be drawn, the audit goes on without one: %s", error.what)
        stages.run_stages(ctx, READ_WITHOUT_SPLIT)


def evaluate_run(folder: Path, pool: str | None, against: Path | None, overrides: dict[str, Any]) -> dict[str, Any]:
    """The evidence of a run: on its own holdout, on another pool, or beside another run.

    Args:
        folder: The run.
        pool: Another pool, or None.
        against: Another run, or None.
        overrides: Options for this evaluation, such as `evaluate.prevalences` or the other pool's `pool.columns`.
    """
    from pipeline import report

    runs.config_of(folder)
    config = config_file.load(folder / run_dir.RESOLVED, overrides)
    if last_round(folder) is None:
        raise InputError("no round is finished yet", where=folder, fix="go on with `cxr-ssl run --resume` first")
    with run_dir.locked(folder):
        if pool is not None:
            engine = make_engine(config.engine)
            try:
                with Progress(quiet=True) as progress:
                    found = _external(StageContext(config, folder, engine, progress), pool, overrides)
            finally:
                engine.close()
        else:
            ctx = StageContext(config, folder, SerialEngine())
            found = _compared(ctx, against) if against is not None else _own(ctx)
        report.build(folder)
    return found | {"report": str(folder / "report" / "index.html")}


def _own(ctx: StageContext) -> dict[str, Any]:
    from pipeline import evaluation

    evaluation.run(ctx)
    path = ctx.folder / evaluation.FILE
    if not path.exists():
        raise InputError(
            "no label of the holdout is known", where=ctx.folder, fix="import the labels the first queue asked for"
        )
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


# --- two runs ---------------------------------------------------------------------------------------------------------


def _compared(ctx: StageContext, other: Path) -> dict[str, Any]:
    """Two runs on the scans of both holdouts, paired."""
    from pipeline import evidence

    theirs_ctx = StageContext(runs.config_of(other), other, SerialEngine())
    ours, theirs = holdout(ctx), holdout(theirs_ctx)
    if ours is None or theirs is None:
        lacking = ctx.folder if ours is None else other
        raise InputError("has no scored holdout", where=lacking, fix="finish a round of it first")
    if ours.findings != theirs.findings:
        raise InputError(
            f"the runs tell other classes apart: {', '.join(ours.findings)} here", value=list(theirs.findings),
            where=other, fix="compare runs with the same findings",
        )  # fmt: skip
    ours, theirs = _on_common_scans(ours, other, theirs)
    for folder in (ctx.folder, other):
        evaluate.log_read(folder, "comparison", None, len(ours.ids_S))
    found = evidence.compare(
        ours.prob_SC, ours.predicted_S, theirs.prob_SC, theirs.predicted_S, ours.class_S, ours.findings, ours.group_S,
        num_bootstrap=ctx.config.evaluate.num_bootstrap, rng=ctx.rng("comparison"),
    )  # fmt: skip
    folders = [whole_of(path) or path.absolute() for path in (ctx.folder, other)]
    names = [path.name for path in folders]
    if names[0] == names[1]:
        names = [f"{path.parent.name}/{path.name}" for path in folders]
    found |= {"a": names[0], "b": names[1]}
    found["metrics"] = [
        {
            "metric": row["metric"], "a": row["first"], "b": row["second"], "difference": row["difference"],
            "ci95": row["difference_ci95"], "p_value": row["p_value"], "p_holm": row["p_holm"],
        }
        for row in found["metrics"]
    ]  # fmt: skip
    write_text(ctx.folder / COMPARISON, json.dumps(found, indent=1))
    return found


def _on_common_scans(ours: Scored, other: Path, theirs: Scored) -> tuple[Scored, Scored]:
    """Both, on the scans sealed in both runs, in one order.

    Raises:
        InputError: there are none, or the two disagree on a truth.
    """
    place = {image_id: i for i, image_id in enumerate(theirs.ids_S)}
    mine = [i for i, image_id in enumerate(ours.ids_S) if image_id in place]
    yours = [place[ours.ids_S[i]] for i in mine]
    if not mine:
        raise InputError("the holdouts share no scan", where=other, fix="compare runs on the same pool and split")
    if len(mine) < max(len(ours.ids_S), len(theirs.ids_S)):
        log.warning(
            "compared on the %d scans of both holdouts (%d and %d)", len(mine), len(ours.ids_S), len(theirs.ids_S)
        )
    ours, theirs = _taken(ours, mine), _taken(theirs, yours)
    if (ours.class_S != theirs.class_S).any():
        raise InputError(
            f"the runs disagree on the truth of {int((ours.class_S != theirs.class_S).sum())} scans", where=other,
            fix="use the same labels for both",
        )  # fmt: skip
    return ours, theirs


def _taken(scored: Scored, rows: list[int]) -> Scored:
    return replace(
        scored, ids_S=[scored.ids_S[i] for i in rows], group_S=[scored.group_S[i] for i in rows],
        class_S=scored.class_S[rows], prob_SC=scored.prob_SC[rows], predicted_S=scored.predicted_S[rows],
    )  # fmt: skip


# --- another pool -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Scans of another pool that the run knows already, from training or from its holdout."""

    num_shared_patients: int
    num_copies: int
    ids: frozenset[str]


def _external(ctx: StageContext, pool: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """The run's last model on another pool; scans that the run knows already are left out and counted."""
    folder = ctx.folder / EXTERNAL / _name_of(pool)
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
    from pipeline.pools import open_pool

    plain: dict[str, Any] = {
        "pool.uri": pool, "pool.findings": None, "oracle": False, "splits.holdout_source": None,
    }  # fmt: skip
    here = config_file.load(home / run_dir.RESOLVED).pool
    if here.finding is not None:  # of the columns of all findings, that of this one
        kept = {name: own for name, own in here.columns.items() if name in (*KNOWN_COLUMNS, here.finding)}
        plain["pool.columns"] = kept
    if (home / backbones.PRETRAINED / backbones.CARD).exists():  # what the run pretrained is used, not made again
        folder = str((home / backbones.PRETRAINED).absolute())
        plain |= {"pretrain.epochs": 0, "backbone.name": folder, "backbone.weights": None}
    config = config_file.load(home / run_dir.RESOLVED, plain | overrides)
    try:
        open_pool(config.pool, cache_folder())
    except InputError:
        other = plain | {"pool.columns": {}, "pool.patient_regex": None} | overrides
        config = config_file.load(home / run_dir.RESOLVED, other)
        open_pool(config.pool, cache_folder())
    return config


def _tested(ctx: StageContext, there: StageContext, pool: str) -> dict[str, Any]:
    from pipeline.audit.subject import open_subject

    folder = there.folder
    audited = audit.examine(there, audit.POOL)
    audit.write(folder, audited)
    subject = open_subject(there)
    seen = already_seen(ctx, folder)
    scored, left_out, num_other = _scored_there(ctx.folder, there, subject, seen)
    scope = {
        "kind": "external", "pool": pool, "round": last_round(ctx.folder),
        "read": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    found = detailed(ctx, scored, subject, scope) | {
        "audit": {
            "num_shared_patients": seen.num_shared_patients, "num_copies": seen.num_copies,
            "num_left_out": left_out, "num_other_classes": num_other,
            "verdict": audited["verdict"],
        }
    }  # fmt: skip
    write_text(folder / "evaluation.json", json.dumps(found, indent=1))
    return found


def already_seen(ctx: StageContext, there: Path) -> Seen:
    """Scans of a pool whose patient or picture is also in the run: an external test is of what it has never seen."""
    from pipeline.duplicates import near_links_between

    ours, theirs = _usable(ctx.folder), _usable(there)
    patients = ours["patient_id"].drop_null().combine_chunks()
    shared = theirs.filter(pc.is_in(theirs["patient_id"], value_set=patients))
    near = near_links_between(ours, theirs, ctx.engine, ctx.config.duplicates, ctx.config.pool.max_pixels)
    copies = {theirs["image_id"][int(row)].as_py() for row in near}
    num_patients = len(pc.unique(shared["patient_id"]))
    return Seen(num_patients, len(copies), frozenset(copies | set(shared["image_id"].to_pylist())))


def _usable(folder: Path) -> pa.Table:
    manifest = MANIFEST.read(folder)
    return manifest.filter(pc.equal(manifest["status"], "ok"))


def _scored_there(home: Path, there: StageContext, subject: Any, seen: Seen) -> tuple[Scored, int, int]:
    """The labelled scans of a pool as the run's model sees them; how many it knew or cannot name."""
    model = Classifier.load(home / "rounds" / f"{last_round(home):02d}" / "model")
    _same_input(home, there)
    index = {finding: c for c, finding in enumerate(model.findings)}
    labelled = [row for row in subject.labelled if subject.has_emb_N[row]]
    known = [row for row in labelled if subject.label_N[row] in index]
    rows = np.array([row for row in known if subject.image_id_N[row] not in seen.ids], dtype=np.int64)
    if len(rows) == 0:
        raise InputError(
            f"none of its {len(labelled)} labelled scans can be scored: classes {list(subject.findings)}, "
            f"{len(seen.ids)} scans known from the run itself",
            where=subject.config.pool.uri, fix=f"give scans labelled {', '.join(model.findings)}",
        )  # fmt: skip
    logit_SC = _logits(there, model, subject, rows)
    prob_SC = model.probabilities(logit_SC)
    scored = Scored(
        findings=model.findings,
        ids_S=[str(subject.image_id_N[row]) for row in rows],
        group_S=[str(subject.group_N[row]) for row in rows],
        class_S=np.array([index[subject.label_N[row]] for row in rows], dtype=np.int64),
        prob_SC=np.asarray(prob_SC, dtype=np.float64),
        predicted_S=model.classes(prob_SC).astype(np.int64),
    )
    return scored, len(known) - len(rows), len(labelled) - len(known)


def _same_input(home: Path, there: StageContext) -> None:
    """Refuse to score a model on what another backbone, or another size, makes of the scans."""
    ours, theirs = (json.loads((folder / "backbone.json").read_text("utf-8")) for folder in (home, there.folder))
    for key, where in (("weights_hash", "backbone"), ("size_px", "preprocess.size_px")):
        if ours[key] != theirs[key]:
            raise InputError(
                f"the run's model was made for another input: {key} {ours[key]}, here it is {theirs[key]}",
                value=str(theirs[key]), where=where, fix="leave these options to the run's own configuration",
            )  # fmt: skip


def _logits(there: StageContext, model: Classifier, subject: Any, rows: np.ndarray) -> np.ndarray:
    """Logits (S, C) of a pool's scans: a head sees their embeddings, a network the scans."""
    if not isinstance(model.model, Path):
        return model.logits(subject.embeddings(rows))
    manifest = MANIFEST.read(there.folder)
    place = pc.index_in(pa.array(subject.image_id_N[rows]), value_set=manifest["image_id"].combine_chunks())
    return predict.predict(there, model.model, manifest["uri"].take(place).to_pylist(), "logit")


def _name_of(pool: str) -> str:
    """A folder's name for a pool: readable, and its own for every URI."""
    import hashlib

    path = pool.rstrip("/").removesuffix("/manifest.csv").removesuffix("/manifest.parquet")
    words = re.sub(r"[^A-Za-z0-9]+", "-", path.rsplit("/", 1)[-1]).strip("-")[:40] or "pool"
    return f"{words}-{hashlib.sha256(pool.encode()).hexdigest()[:6]}"
