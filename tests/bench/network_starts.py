"""What the adapted network starts from: the network that answers, trained from other first heads on the same labels.

One round of labels on each pool, see `network_round`; the rows are in `results/network-starts.json`, and a run that is
in there is not repeated.
"""

from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.contracts.config import Config
from pipeline.learn import self_training
from pipeline.learn.candidate import Candidate
from pipeline.learn.heads.head import Head
from pipeline.learn.lesson import Lesson
from pipeline.learn.material import Features, Material
from pipeline.learn.network import design
from pipeline.learn.network.fits import Fold
from pipeline.learn.network.student import FrozenHeads
from pipeline.learn.scan_rows import ScanRows
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors
from tests.bench import tables
from tests.bench.network_gate import CANDIDATES
from tests.bench.network_round import (
    LABELS,
    MEASURES,
    POOLS,
    SIZE_PX,
    Begun,
    Both,
    Row,
    complete,
    folds,
    holdout_auroc,
    known_rows,
    predict,
    worth,
)

STARTS = ("student imitated", "plain embedding and its targets", "plain embedding")
FIXED = "student imitated, one penalty"  # rows of before the penalty was found by leaving scans out
COMPARED = ("kermany", "nih")  # pools on which the network starts in every way
FILE = tables.RESULTS / "network-starts.json"


def main(data: Path, given: Namespace) -> None:
    """The network that answers alone, from each first head."""
    for start in STARTS if given.starts is None else STARTS[: given.starts]:
        for seed in range(given.seeds):
            for pool in [given.pool] if given.pool else POOLS:
                if start == STARTS[0] or pool in COMPARED:
                    measure = partial(_started, start)
                    complete(FILE, f"{pool}/{LABELS[0]}/{seed}", data, measure, f"/{start}")
                    _write()


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
    student_logit_NC, network_logit_NC = heads.student.logit_NC, predict(begun.adapter, fit.trained)
    temperature, bias_C = heads.calibration
    mean_NC = 0.5 * ((student_logit_NC + bias_C) / temperature + network_logit_NC)
    nothing_EC = np.zeros_like(heads.student.oof_logit_EC)
    row: Row = {"student": worth(begun, heads.student)["holdout"]}
    for name, logit_NC in (("network", network_logit_NC), ("mean", mean_NC)):
        alone = _AsTaught(name, Both(), logit_NC.astype(np.float32), nothing_EC)  # type: ignore[arg-type]
        row[name] = worth(begun, alone)["holdout"]
    own_ND = np.asarray(Vectors.open(begun.ctx.folder).own_ND, np.float32)
    return row | {"first_head": holdout_auroc(begun, first.logits(own_ND)), "learner": heads.student.name}


def _last(heads: FrozenHeads, config: Config, seed: int) -> tuple[Head, Lesson[ScanRows], np.ndarray]:
    """First head and lesson of the network that answers."""
    fold = folds(heads, config, seed)[-1]
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


def _write() -> None:
    """Student, network and mean by pool and start."""
    known = known_rows(FILE)
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
