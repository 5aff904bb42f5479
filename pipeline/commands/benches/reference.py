"""`cxr-ssl bench reference`: the set, its audit, the baselines over several draws, published figures beside them."""

import datetime as dt
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.backbones import OFFLINE
from pipeline.baselines import heads, material, published, reconstruction, report, scoring, small, training
from pipeline.baselines.material import Material
from pipeline.baselines.reconstruction import FINDINGS, Draw
from pipeline.baselines.scoring import Scored
from pipeline.commands import audit
from pipeline.commands import request as commands_request
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text
from pipeline.runtime import run_dir
from pipeline.runtime.context import StageContext
from pipeline.runtime.progress import Progress
from pipeline.runtime.workplace import workplace

# N scans, T test scans, C classes, D dimensions

log = logging.getLogger(__name__)
NUM_TEST, VAL_SHARE = 40, 0.15  # test scans a class; part of the others to stop by
MAX_AUDITED = 10_000  # the audit looks at every scan: the bench takes over what it saw


@dataclass(frozen=True)
class Request:
    """What a user asked for.

    Attributes:
        covid: Pool with the COVID scans.
        kermany: Pool of Kermany et al. 2018.
        out: Folder for the result and the audit; None: the cache, and nothing is left to read.
        num_seeds: Draws, each with its own split and training.
        vgg16: Its ImageNet weights; None: where torch keeps them.
        overrides: Dotted options.
        quiet: No progress.
    """

    covid: str | None
    kermany: str | None
    out: Path | None = None
    num_seeds: int = 5
    vgg16: Path | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    quiet: bool = False


def reference(request: Request) -> dict[str, Any]:
    """Run the bench; returns its result, and writes it where `out` says.

    Raises:
        InputError: a pool is missing or lacks a class, or an option is wrong.
    """
    covid, kermany = _pools(request)
    weights = material.find_vgg16(request.vgg16)
    if request.out is not None:
        run_dir.refuse_foreign(request.out.absolute())
    pool = reconstruction.write_set(covid, kermany, cache_folder() / "bench")
    folder = (request.out or pool.with_suffix("")).absolute()
    fixed = {"pool.uri": str(pool), "pool.findings": list(FINDINGS)}
    options = {"audit.max_scans": MAX_AUDITED} | request.overrides | fixed
    audited = audit.audit_pool(commands_request.Request(overrides=options, out=folder, quiet=request.quiet))
    config = run_dir.config_of(folder)
    with workplace(config, folder) as place, run_dir.locked(folder), Progress(quiet=request.quiet) as progress:
        result = _measure(StageContext(config, folder, place.engine, progress), request, weights) | _judged(audited)
        result |= {"out": None if request.out is None else str(folder)}
        if request.out is not None:
            write_text(folder / "reference.json", json.dumps(result, indent=1))
            write_text(folder / "reference.md", report.markdown(result))
    return result


def _pools(request: Request) -> tuple[str, str]:
    missing = [name for name in ("covid", "kermany") if getattr(request, name) is None]
    if missing:
        raise InputError(
            "two pools are needed: COVID scans with patient ids, and the chest X-rays of Kermany et al. 2018",
            where=" ".join(f"--{name}" for name in missing),
            fix="give --covid POOL (such as covid3/manifest.csv) and --kermany POOL (its folder or manifest)",
        )
    if request.num_seeds < 1:
        raise InputError("at least one draw is needed", value=request.num_seeds, where="--seeds")
    assert request.covid is not None
    assert request.kermany is not None
    return request.covid, request.kermany


def _judged(audited: dict[str, Any]) -> dict[str, Any]:
    def checks_of(severity: str) -> list[dict[str, Any]]:
        return [{k: c[k] for k in ("id", "title", "message")} for c in audited["checks"] if c["severity"] == severity]

    return {
        "audit": {
            "verdict": audited["verdict"],
            "blocks": checks_of("block"),
            "warns": checks_of("warn"),
            "report": audited["report"],
        }
    }


def _measure(ctx: StageContext, request: Request, weights: Path | None) -> dict[str, Any]:
    scans = material.load(ctx)
    rngs = [ctx.rng("bench/draw", seed) for seed in range(request.num_seeds)]
    draws = [reconstruction.draw(scans.class_N, scans.group_N, NUM_TEST, VAL_SHARE, rng) for rng in rngs]
    log.info(
        "%d scans of %d patients; %d draws of %d test scans a class",
        len(scans),
        len(np.unique(scans.group_N)),
        len(draws),
        NUM_TEST,
    )
    emb = {"frozen": scans.emb_ND, "no-lungs": scans.facts.masked_emb_ND}
    if weights is not None:
        emb["vgg16"] = scans.vgg16(weights)
    compared = small.measure(scans, request.num_seeds, emb)
    rows = _without_training(scans, draws, emb)
    for name, (probs, about) in training.train_all(scans, draws).items():
        rows[name] = _scored(scans, draws, probs, name) | about
    return {
        "bench": "reference",
        "sentence": report.SENTENCE,
        "findings": list(FINDINGS),
        "num_seeds": len(draws),
        "num_test_a_class": NUM_TEST,
        "set": _counted(scans),
        "rows": [{"key": key} | rows[key] for key in report.ROWS if key in rows],
        "published": [asdict(figure) for figure in published.THREE_CLASSES],
        "small": compared,
        "small_published": [asdict(figure) for figure in published.SMALL],
        "net": "Lite0" if ctx.config.backbone.name == OFFLINE else ctx.config.backbone.name,
        "vgg16": None if weights is None else weights.name,
        "recipes": {name: recipe.model_dump(exclude_defaults=True) for name, recipe in training.RECIPES.items()},
        "environment": run_dir.environment(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "size_px": training.SIZE_PX | {"frozen": ctx.config.preprocess.size_px},
    }


def _counted(scans: Material) -> list[dict[str, Any]]:
    out = []
    for c, finding in enumerate(FINDINGS):
        rows = np.flatnonzero(scans.class_N == c)
        sources = sorted(set(scans.scans["source"].take(rows).to_pylist()))
        num_groups = len(np.unique(scans.group_N[rows]))
        out.append({"finding": finding, "num_scans": len(rows), "num_groups": num_groups, "sources": sources})
    return out


def _scored(scans: Material, draws: Sequence[Draw], probs: Sequence[np.ndarray], name: str) -> dict[str, Any]:
    tested = [
        Scored(prob_TC, scans.class_N[draw.test], scans.group_N[draw.test].tolist())
        for draw, prob_TC in zip(draws, probs, strict=True)
    ]
    return scoring.figures(tested, FINDINGS, scans.ctx.rng(f"bench/{name}"))


def _without_training(scans: Material, draws: Sequence[Draw], emb: dict[str, np.ndarray]) -> dict[str, Any]:
    """Heads on embeddings that are there already, and trees on facts of the file. All but the test scans teach."""
    train = scans.ctx.config.train
    learned = [np.union1d(draw.train, draw.val) for draw in draws]
    probs: dict[str, list[np.ndarray]] = {
        name: [heads.frozen(emb_ND, scans.class_N, rows, d.test, train) for rows, d in zip(learned, draws, strict=True)]
        for name, emb_ND in emb.items()
    }
    for name, columns in heads.FACTS.items():
        fact_NM = scans.facts_named(columns)
        probs[name] = [
            heads.facts_alone(fact_NM, scans.class_N, rows, d.test) for rows, d in zip(learned, draws, strict=True)
        ]
    return {name: _scored(scans, draws, prob_of_draw, name) for name, prob_of_draw in probs.items()}
