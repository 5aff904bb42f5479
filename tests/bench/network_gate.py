"""Which rule says whether the adapted network answers? Student, network and their mean, out of fold and on a holdout.

One round of labels on each pool; the holdout is a share of its patients, other ones for each seed, and Kermany is its
training part alone, so no official test is read. A run trains the networks of the folds and the one that answers,
whatever the rule in force says of them, and keeps what each candidate is worth out of fold and on the holdout, each
with the temperature, bias and operating point that the product would give it. So every rule is worked out from the
same runs, in `results/network-gate.json`; a run that is in there is not repeated.

`network_starts` trains the network that answers from other first heads on the same labels.
"""

import json
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from embeddings import activations
from pipeline import stages
from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.tables import write_text
from pipeline.labels.holdout import holdout_truth
from pipeline.learn import rollback, self_training
from pipeline.learn.candidate import Candidate
from pipeline.learn.heads.head import Head
from pipeline.learn.lesson import Lesson, learn_masks
from pipeline.learn.material import Features, Material
from pipeline.learn.network import adapter as network_adapter
from pipeline.learn.network import design, student
from pipeline.learn.network.adapter import Adapter
from pipeline.learn.network.design import Trained
from pipeline.learn.network.fits import Fold
from pipeline.learn.network.student import FrozenHeads
from pipeline.learn.network.training_loop import logits_of
from pipeline.learn.scan_rows import ScanRows
from pipeline.learn.self_training import Taught
from pipeline.measures import calibrate
from pipeline.measures.holdout_metrics import expected_calibration_error
from pipeline.rounds import loop
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors
from tests.bench import pools, tables

POOLS = {"kermany": 0.5, "nih": 0.3, "covid3": 0.3, "phantom": 0.3}  # and the share of its patients that is held out
FINDINGS = {"kermany": "normal pneumonia", "nih": "no_finding pneumonia", "covid3": "no_finding pneumonia covid"}
LABELS = (100, 50)
NUM_FOLDS, SIZE_PX = 3, 128  # fewer and smaller than by default: a fifth of the time
CANDIDATES = ("student", "network", "mean")
RULES = {
    "student always": "the frozen student",
    "network, not below": "as in 0.1.0: the network where its out-of-fold AUROC is at most `pseudo.rollback_auroc` "
    "below the student's",
    "network, not surely below": "the network unless its AUROC is below beyond chance",
    "network, not surely worse": "the network unless AUROC, accuracy or Brier score are worse beyond chance",
    "network always": "the network",
    "mean always": "the mean of the calibrated log-probabilities of student and network",
    "mean, not surely worse": "that mean, unless one of the three is worse beyond chance; the product's rule",
}
STARTS = ("student imitated", "plain embedding and its targets", "plain embedding")
FIXED = "student imitated, one penalty"  # rows of before the penalty was found by leaving scans out
COMPARED = ("kermany", "nih")  # pools on which the network starts in every way
MEASURES = ("auroc", "accuracy", "brier", "ece")
FILE, STARTS_FILE = tables.RESULTS / "network-gate.json", tables.RESULTS / "network-starts.json"
Row = dict[str, Any]


class _KnownError(Exception):
    """What was asked for is known; nothing more is wanted of the run."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row


@dataclass(frozen=True)
class Begun:
    """A round whose heads have learned, and whose network has not."""

    ctx: StageContext
    taught: Taught
    adapter: Adapter
    rng: np.random.Generator

    @property
    def material(self) -> Material:
        """What it learns from."""
        return self.taught.heads.material


Measure = Callable[[Begun], Row]


def main(data: Path, given: Namespace) -> None:
    """Run what is missing, and write the table after each run."""
    for labels in LABELS if given.labels is None else (given.labels,):
        for seed in range(given.seeds):
            for pool in [given.pool] if given.pool else POOLS:
                _complete(FILE, f"{pool}/{labels}/{seed}", data, _judged)
                _write()


def starts(data: Path, given: Namespace) -> None:
    """The network that answers alone, from each first head."""
    for start in STARTS if given.starts is None else STARTS[: given.starts]:
        for seed in range(given.seeds):
            for pool in [given.pool] if given.pool else POOLS:
                if start == STARTS[0] or pool in COMPARED:
                    measure = partial(_started, start)
                    _complete(STARTS_FILE, f"{pool}/{LABELS[0]}/{seed}", data, measure, f"/{start}")
                    _write_starts()


def _complete(file: Path, run: str, data: Path, measure: Measure, what: str = "") -> None:
    """Add a run to a file of results, unless it is there."""
    key = run + what
    if key not in _known(file):
        pool, labels, seed = run.split("/")
        start = time.perf_counter()
        row = _of_one_round(data, pool, int(labels), int(seed), measure)
        row["minutes"] = (time.perf_counter() - start) / 60.0
        sys.stderr.write(f"{key}: {json.dumps(row)}\n")
        write_text(file, json.dumps(_known(file) | {key: row}, indent=1) + "\n")


def _known(file: Path) -> dict[str, Row]:
    known: dict[str, Row] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return known


# --- a run up to the moment at which the network learns ---------------------------------------------------------------


def _of_one_round(data: Path, pool: str, labels: int, seed: int, measure: Measure) -> Row:
    """What `measure` makes of the first round of a run on a pool that was read before."""
    options = _options(data, pool) | {"queue.budget": labels, "seed": seed, "splits.draw": f"seed-{seed}"}
    options["preprocess.size_px"] = SIZE_PX
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        shutil.copytree(_read(data, pool), place)
        ctx = StageContext(config_file.load(None, options), place, SerialEngine())
        for name in ("splits", "embed", "clusters"):
            stages.function(name, ctx.config)(ctx)

        def learn(
            material: Material, config: Config, engine: Any, num: int, admitted: Any, rng: Any, adapter: Any
        ) -> None:
            taught = self_training.teach(material, config, engine, num, admitted, rng)
            raise _KnownError(measure(Begun(ctx, taught, adapter, rng)))

        with mock.patch.object(self_training, "learn", learn):
            try:
                loop.run(ctx)
            except _KnownError as known:
                return known.row
    raise AssertionError("the round learns")


def _read(data: Path, pool: str) -> Path:
    """A folder in which the scans of a pool were read and compared, once for all seeds."""
    place = cache_folder() / "bench" / "network_gate" / pool
    if not (place / run_files.FEATURES).exists():
        config = config_file.load(None, _options(data, pool))
        place.mkdir(parents=True, exist_ok=True)
        run_dir.write_config(place, config)
        stages.run_stages(StageContext(config, place, SerialEngine()), stages.READ)
    return place


def _options(data: Path, pool: str) -> dict[str, Any]:
    folder = cache_folder() / "bench" / "network_gate"
    uri = {
        "kermany": lambda: str(pools.without_official_test(data, folder)),
        "nih": lambda: str(pools.nih_part(data, folder)),
        "covid3": lambda: pools.uri(data, "covid3"),
        "phantom": lambda: "phantom:num_patients=600",
    }[pool]()
    return {
        "pool.uri": uri,
        "oracle": True,
        "rounds.num": 1,
        "rounds.reference": False,
        "train.adapt": "partial",
        "calibrate.num_folds": NUM_FOLDS,
        "splits.holdout_fraction": POOLS[pool],
        "engine.backend": "serial",
        **({"pool.findings": FINDINGS[pool].split()} if pool in FINDINGS else {}),
    }


# --- student, network, mean -------------------------------------------------------------------------------------------


def _judged(begun: Begun) -> Row:
    """Each candidate out of fold and on the holdout, and what the rules ask about."""
    heads, config = begun.taught.frozen_heads(), begun.ctx.config
    seed = int(begun.rng.integers(2**31))
    *of_folds, whole = begun.adapter.train(_folds(heads, config, seed), seed)
    oof_EC = np.empty_like(heads.student.oof_logit_EC)
    for fold, fit in zip(np.unique(heads.fold_E), of_folds, strict=True):
        oof_EC[heads.fold_E == fold] = fit.logit_HC
    network = Candidate(f"{heads.student.name}+network", whole.trained, _predict(begun.adapter, whole.trained), oof_EC)
    mean = _mean(heads.student, network, begun.material)
    of_candidate = dict(zip(CANDIDATES, (heads.student, network, mean), strict=True))
    row: Row = {name: _worth(begun, candidate) for name, candidate in of_candidate.items()}
    row["falls"] = {name: _falls(begun, heads.student, of_candidate[name]) for name in CANDIDATES[1:]}
    row |= {"num_expert": len(begun.material.expert_E), "learner": heads.student.name}
    row["first_head"] = _auroc_of_first_head(begun, heads)
    _keep_logits(begun, heads, of_candidate)
    return row


def _folds(heads: FrozenHeads, config: Config, seed: int) -> list[Fold]:
    """What the networks of the folds learn, and last the one that answers; as `student.adapted` has it."""
    folds = []
    for number, learn_E in enumerate(learn_masks(heads.fold_E)):
        lesson = student.fold_lesson(heads, number, config, learn_E, None, config.train.max_rows, seed)
        held_out = heads.material.expert_E.keep(~learn_E)
        first = student.first_head([heads], [number], seed)
        folds.append(Fold(first, lesson, heads.acceptance.learning_threshold_C, held_out))
    return folds


def _predict(adapter: Adapter, trained: Trained) -> np.ndarray:
    """Logits (N, C) of every scan with a vector, from the activations of its plain view."""
    early = activations.early_of(trained.design.backbone, adapter.config, trained.design.num_early)
    sha256 = adapter.sha256_N.to_pylist()
    network_adapter.fill(adapter.ctx, early, adapter.root, list(zip(sha256, adapter.uri_N.to_pylist(), strict=True)))
    rows = early.cache(adapter.root).rows(sha256)
    return logits_of(lambda: design.late(trained.design), trained.arrays, rows, adapter.config.network, False)


@dataclass(frozen=True)
class _Both:
    """Stands for a model that is two; nothing is asked of it."""

    def shifted(self, bias_C: np.ndarray) -> "_Both":
        """Itself: the logits are shifted apart from it."""
        return self


def _mean(first: Candidate, second: Candidate, material: Material) -> Candidate:
    """The mean of the calibrated log-probabilities, as `candidate.average` has it of heads."""
    scale, other = (0.5 / candidate.calibration(material)[0] for candidate in (first, second))
    return Candidate(
        "mean",
        _Both(),  # type: ignore[arg-type]
        scale * first.logit_NC + other * second.logit_NC,
        scale * first.oof_logit_EC + other * second.oof_logit_EC,
    )


def _worth(begun: Begun, candidate: Candidate) -> Row:
    """A candidate's measures out of fold and on the holdout, with the product's calibration and operating point."""
    learned = begun.taught.learned(candidate)
    findings = Dataset.open(begun.ctx).findings
    model = learned.classifier(findings)
    prob_EC, prob_NC = (model.probabilities(of) for of in (learned.oof_logit_EC, learned.student_logit_NC))
    truth = holdout_truth(begun.ctx.folder, findings)
    prob_HC = prob_NC[Vectors.open(begun.ctx.folder).positions(truth.ids)]
    return {
        "out_of_fold": _measures(prob_EC, model.classes(prob_EC), begun.material.class_E),
        "holdout": _measures(prob_HC, model.classes(prob_HC), truth.class_N),
        "temperature": learned.temperature,
    }


def _measures(prob_NC: np.ndarray, called_N: np.ndarray, truth_N: np.ndarray) -> dict[str, float]:
    right_N = called_N == truth_N
    return {
        "auroc": rollback.oof_auroc(prob_NC, truth_N) or 0.5,
        "accuracy": float(right_N.mean()),
        "balanced_accuracy": float(np.mean([right_N[truth_N == c].mean() for c in np.unique(truth_N)])),
        "brier": float(0.5 * np.square(prob_NC - np.eye(prob_NC.shape[1])[truth_N]).sum(1).mean()),
        "ece": expected_calibration_error(prob_NC.max(1), prob_NC.argmax(1) == truth_N),
    }


def _falls(begun: Begun, before: Candidate, after: Candidate) -> Row:
    """By how much a candidate is worse out of fold than the student, and whether beyond chance, measure by measure."""
    material, pseudo = begun.material, begun.ctx.config.pseudo
    prob_EC, after_EC = (
        calibrate.apply_temperature(candidate.oof_logit_EC + bias_C, temperature)
        for candidate in (before, after)
        for temperature, bias_C in [candidate.calibration(material)]
    )
    allowed = rollback.Allowed(pseudo.rollback_auroc, pseudo.rollback_accuracy, pseudo.rollback_brier)
    rng = np.random.default_rng(0)
    judged = rollback.falls(prob_EC, after_EC, material.class_E, list(material.group_E), allowed, rng)
    return {fall.measure: {"amount": fall.amount, "beyond_chance": bool(fall.beyond_chance)} for fall in judged}


def _auroc_of_first_head(begun: Begun, heads: FrozenHeads) -> float:
    """On the holdout, before the network learned."""
    first = student.first_head([heads], [-1], 0)
    return _holdout_auroc(begun, first.logits(np.asarray(Vectors.open(begun.ctx.folder).own_ND, np.float32)))


def _holdout_auroc(begun: Begun, logit_NC: np.ndarray) -> float:
    truth = holdout_truth(begun.ctx.folder, Dataset.open(begun.ctx).findings)
    rows = Vectors.open(begun.ctx.folder).positions(truth.ids)
    return rollback.oof_auroc(calibrate.apply_temperature(logit_NC[rows], 1.0), truth.class_N) or 0.5


def _keep_logits(begun: Begun, heads: FrozenHeads, of_candidate: dict[str, Candidate]) -> None:
    """For a closer look: logits of all candidates, in the cache."""
    folder = cache_folder() / "bench" / "network_gate" / "logits"
    folder.mkdir(parents=True, exist_ok=True)
    config = begun.ctx.config
    findings = Dataset.open(begun.ctx).findings
    truth = holdout_truth(begun.ctx.folder, findings)
    rows = Vectors.open(begun.ctx.folder).positions(truth.ids)
    arrays = {"class_E": begun.material.class_E, "fold_E": heads.fold_E, "class_H": truth.class_N}
    arrays["group_E"] = np.array(begun.material.group_E, str)
    for name, candidate in of_candidate.items():
        arrays |= {f"{name}_EC": candidate.oof_logit_EC, f"{name}_HC": candidate.logit_NC[rows]}
    name = f"{'-'.join(findings)}-{len(begun.material.expert_E)}-{config.seed}-{config.splits.holdout_fraction}"
    np.savez(folder / f"{Path(config.pool.uri).stem.split(':')[0]}-{name}.npz", **arrays)


# --- other first heads ------------------------------------------------------------------------------------------------


class _AsTaught(Candidate):
    """A network without those of the folds: calibrated, as its targets were."""

    def calibration(self, material: Material) -> tuple[float, np.ndarray]:
        """None is needed."""
        return 1.0, np.zeros(self.logit_NC.shape[1])


def _started(start: str, begun: Begun) -> Row:
    """The network that answers, from one start: alone, and in the mean with the student."""
    heads, config = begun.taught.frozen_heads(), begun.ctx.config
    seed = int(begun.rng.integers(2**31))
    first, lesson, sure_C = _last(heads, config, seed)
    if start != STARTS[0]:
        plain, basis = _on_plain_embedding(begun)
        temperature, bias_C = plain.calibration
        first = design.first_head(plain.student.heads[-1].head.shifted(bias_C), *basis, temperature)
        if start == "plain embedding and its targets":
            lesson = _last(plain, config, seed)[1]
    nobody = heads.material.expert_E.keep(np.zeros(len(heads.material.expert_E), bool))
    [fit] = begun.adapter.train([Fold(first, lesson, sure_C, nobody)], seed)
    student_logit_NC, network_logit_NC = heads.student.logit_NC, _predict(begun.adapter, fit.trained)
    temperature, bias_C = heads.calibration
    mean_NC = 0.5 * ((student_logit_NC + bias_C) / temperature + network_logit_NC)
    nothing_EC = np.zeros_like(heads.student.oof_logit_EC)
    row: Row = {"student": _worth(begun, heads.student)["holdout"]}
    for name, logit_NC in (("network", network_logit_NC), ("mean", mean_NC)):
        alone = _AsTaught(name, _Both(), logit_NC.astype(np.float32), nothing_EC)  # type: ignore[arg-type]
        row[name] = _worth(begun, alone)["holdout"]
    own_ND = np.asarray(Vectors.open(begun.ctx.folder).own_ND, np.float32)
    return row | {"first_head": _holdout_auroc(begun, first.logits(own_ND)), "learner": heads.student.name}


def _last(heads: FrozenHeads, config: Config, seed: int) -> tuple[Head, Lesson[ScanRows], np.ndarray]:
    """First head and lesson of the network that answers."""
    fold = _folds(heads, config, seed)[-1]
    return fold.head, fold.lesson, fold.sure_C


def _on_plain_embedding(begun: Begun) -> tuple[FrozenHeads, tuple[np.ndarray, np.ndarray]]:
    """The round's heads with `embed.features: pooled` on the same labels and folds, and the basis of their features."""
    vectors, config, heads = Vectors.open(begun.ctx.folder), begun.ctx.config, begun.taught.heads
    own_ND = np.asarray(vectors.own_ND, np.float32)
    rows_T = vectors.positions(begun.material.pool_T.image_id)
    mean_D, axes_DP, variance = principal_components.principal_axes(own_ND, config.train.num_components, rows_T)
    basis_DP = (axes_DP * (principal_components.RMS_NORM / np.sqrt(variance))).astype(np.float32)
    features = Features(begun.material.scans_N, principal_components.project(own_ND, mean_D, basis_DP))
    num_classes = begun.taught.teacher.oof_logit_EC.shape[1]
    material = replace(begun.material, features=features)
    rng = np.random.default_rng(0)
    opened = [True] * num_classes
    taught = self_training.teach(material, config, heads.engine, num_classes, opened, rng, heads.fold_E)
    return taught.frozen_heads(), (mean_D, basis_DP)


# --- tables -----------------------------------------------------------------------------------------------------------


def choice(rule: str, row: Row) -> str:
    """The candidate that answers by a rule."""
    if rule.endswith("always"):
        return rule.split()[0]
    answers = "mean" if rule.startswith("mean") else "network"
    falls = row["falls"][answers]
    if rule == "network, not below":
        worse = falls.get("AUROC", {"amount": 0.0})["amount"] > Config().pseudo.rollback_auroc
    else:
        asked = ("AUROC",) if rule == "network, not surely below" else tuple(falls)
        worse = any(falls[name]["beyond_chance"] for name in asked if name in falls)
    return "student" if worse else answers


def _write() -> None:
    """One line a rule, pool and number of labels; and what the comparison out of fold is worth."""
    known = _known(FILE)
    table, notes = [], []
    for labels in LABELS:
        for pool in POOLS:
            runs = [row for key, row in known.items() if key.startswith(f"{pool}/{labels}/")]
            if runs:
                table += [(f"{pool}, {labels}", len(runs), rule, *_cells(rule, runs)) for rule in RULES]
    runs = list(known.values())
    if len(runs) > 1:
        nothing = ["–"] * len(MEASURES)
        cells = {rule: _cells(rule, runs) for rule in RULES}
        table += [
            ("all runs", len(runs), rule, of[0], *nothing, *of[1 + len(MEASURES) :]) for rule, of in cells.items()
        ]
        notes.append(_agreement(runs))
    tables.write(
        "network-gate",
        "Which rule says whether the adapted network answers",
        "python -m tests.bench network_gate",
        (
            "pool, labels",
            "seeds",
            "rule",
            "network answers",
            "AUROC",
            "accuracy",
            "Brier",
            "ECE",
            "AUROC gained",
            "accuracy gained",
        ),
        table,
        "Holdouts of other patients for each seed (kermany: half of those of its training part; the others: three "
        f"tenths; phantom: 600 patients, four classes; nih: the part of covid3 from one source). "
        f"One round of labels, `train.adapt=partial`, {NUM_FOLDS} folds, "
        f"{SIZE_PX} px, other options by default. Mean ± 95 % t-interval over seeds; gained: over the student, paired "
        "by seed. "
        + " ".join(f"*{rule}*: {text}." for rule, text in RULES.items())
        + " Chance: the one-sided 95 % bound of a paired patient-cluster bootstrap. "
        + " ".join(notes),
    )


def _cells(rule: str, runs: list[Row]) -> list[str]:
    chosen = [choice(rule, row) for row in runs]
    used = f"{len(runs) - chosen.count('student')} of {len(runs)}"
    held = [row[name]["holdout"] for row, name in zip(runs, chosen, strict=True)]
    gains = [
        tables.mean_ci([of[name] - row["student"]["holdout"][name] for of, row in zip(held, runs, strict=True)])
        for name in ("auroc", "accuracy")
    ]
    return [used, *(tables.mean_ci([of[name] for of in held]) for name in MEASURES), *gains]


def _agreement(runs: list[Row]) -> str:
    """What the difference out of fold says of that on the holdout."""
    difference = {
        place: np.array([row["network"][place]["auroc"] - row["student"][place]["auroc"] for row in runs])
        for place in ("out_of_fold", "holdout")
    }
    out, held = difference["out_of_fold"], difference["holdout"]
    return (
        f"AUROC of the network less that of the student, over all {len(runs)} runs: out of fold {out.mean():.3f} "
        f"(standard deviation {out.std(ddof=1):.3f}), on the holdout {held.mean():.3f} ({held.std(ddof=1):.3f}), "
        f"correlation of the two {np.corrcoef(out, held)[0, 1]:.2f}; better on the holdout in {(held > 0).sum()} runs, "
        f"out of fold in {(out > 0).sum()}."
    )


def _write_starts() -> None:
    """Student, network and mean by pool and start."""
    known = _known(STARTS_FILE)
    of_start = [
        (pool, start, [row for key, row in known.items() if key.startswith(f"{pool}/") and key.endswith(f"/{start}")])
        for pool in POOLS
        for start in (FIXED, *STARTS)
    ]
    table = [
        (pool, len(runs), "–" if name == "student" else start, name, *_shown(name, runs))
        for pool, start, runs in of_start
        for name in (CANDIDATES if start == FIXED else CANDIDATES[1:])
        if runs
    ]
    tables.write(
        "network-starts",
        "What the adapted network starts from, and its mean with the student",
        "python -m tests.bench network_starts",
        (
            "pool",
            "seeds",
            "network starts from",
            "what answers",
            "first head: AUROC",
            *MEASURES,
            "AUROC over the student",
            "accuracy over the student",
            "Brier over the student",
        ),
        table,
        f"Holdouts as in `network-gate`, {LABELS[0]} labels, {SIZE_PX} px; mean ± 95 % "
        "t-interval over seeds, differences paired. The network that answers alone: without networks of folds it is "
        "taken as calibrated, as its targets were. *Student imitated*: from the linear head on the network's own "
        "embedding that comes nearest to the student's logits on scans left out; *one penalty*: by a ridge penalty of "
        ".1 a scan, as before. *Plain embedding*: from a student that saw "
        "that embedding alone, as before stages were pooled; *and its targets*: it learned from that one too.",
    )


def _shown(name: str, runs: list[Row]) -> list[str]:
    over = ("auroc", "accuracy", "brier")
    return [
        "–" if name == "student" else tables.mean_ci([row["first_head"] for row in runs]),
        *(tables.mean_ci([row[name][measure] for row in runs]) for measure in MEASURES),
        *(tables.mean_ci([row[name][m] - row["student"][m] for row in runs]) for m in over),
    ]
