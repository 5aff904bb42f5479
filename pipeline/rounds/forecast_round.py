"""What a round says of further labels: a forecast from its expert labels, and whether its predictions are stable."""

import logging
from typing import Any

import numpy as np

from pipeline.labels.training_labels import ExpertLabels
from pipeline.learn.material import Material
from pipeline.learn.stopping import forecast, observed_curve, record, stability, subset_fits
from pipeline.learn.stopping.subset_fits import Labels
from pipeline.measures import folds
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record as growth

# E expert labels

log = logging.getLogger(__name__)


def update(
    ctx: StageContext, data: Dataset, round_index: int, expert: ExpertLabels, row: dict[str, Any], of_round: str
) -> None:
    """Write the round's `forecast.json`, unless it is there for these very options and answers.

    Args:
        ctx: The stage's context.
        data: The run's scans.
        round_index: From 1.
        expert: What experts have said up to this round.
        row: The round's metrics; only whether it was rolled back is read, the holdout's scores never.
        of_round: The round's fingerprint.
    """
    options = ctx.config.stop
    path = ctx.round_folder(round_index) / run_files.FORECAST
    if not options.advise:
        path.unlink(missing_ok=True)
        return
    earlier = record.kappas(ctx.folder, round_index)
    fingerprint = run_dir.fingerprint(
        {
            "options": options.model_dump(exclude={"when"}),
            "round": of_round,
            "earlier": earlier[-options.num_comparisons :],
        }
    )
    before = record.read(ctx.folder, round_index)
    if before is not None and before["fingerprint"] == fingerprint:
        return
    material = data.material(expert, set())
    predicted = stability.measure(
        growth.folder_before(ctx.folder, round_index),
        ctx.round_folder(round_index),
        stability.stop_set(data.pool_T, options.num_scans),
        expert.answers,
        rolled_back=row["rolled_back"],
        earlier=earlier,
        options=options,
    ).to_json()
    ahead = _forecast(ctx, material, round_index, data.findings)
    advice = record.advice(predicted, ahead, options)
    content = {"round": round_index, "num_expert": len(material.expert_E), "forecast": ahead, "stability": predicted}
    record.write(ctx.folder, round_index, content | {"advice": advice, "fingerprint": fingerprint})
    if advice["stop"]:
        log.info("round %d: consider stopping; %s", round_index, "; ".join(advice["why"]))


def _forecast(ctx: StageContext, material: Material, round_index: int, findings: tuple[str, ...]) -> dict[str, Any]:
    options, num_labels = ctx.config.stop, len(material.expert_E)
    rng = ctx.rng("forecast", round_index)
    kept_E = _kept(list(material.group_E), rng)
    class_E = material.class_E[kept_E]
    group_E = [group for group, kept in zip(material.group_E, kept_E, strict=True) if kept]
    num_open = int(material.open_T.sum())
    horizons = [labels for labels in options.horizons if labels <= num_open]
    why = forecast.too_early(class_E, group_E, findings, options)
    if not horizons:
        why = f"only {num_open} scans without a label are left, and the nearest horizon is {options.horizons[0]}"
    if why:
        return forecast.nothing(why, num_labels, options)
    features = material.features.load()
    x_EP = np.asarray(features.x_NP[features.scans_N.positions(material.expert_E.keep(kept_E))])
    seeds = rng.integers(2**31, size=options.num_repeats).tolist()
    draws = subset_fits.fit_all(ctx.engine, Labels(x_EP, class_E, group_E, len(findings)), ctx.config.train, seeds)
    return forecast.describe(observed_curve.observe(draws, class_E, group_E, rng), num_labels, horizons, options)


def _kept(group_E: list[str], rng: np.random.Generator) -> np.ndarray:
    """Which labels a curve is drawn from: all, or whole patients drawn by chance; a mask."""
    if len(group_E) <= forecast.MAX_LABELS:
        return np.ones(len(group_E), bool)
    index_E = folds.group_index(group_E)
    order_G = rng.permutation(int(index_E.max()) + 1)
    reached_G = np.bincount(index_E)[order_G].cumsum()
    return np.isin(index_E, order_G[reached_G <= forecast.MAX_LABELS])
