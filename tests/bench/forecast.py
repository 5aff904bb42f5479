"""Does the forecast of further labels come true? Simulated histories, forecast and continued, over seeds.

Legend: T scans of the training pool, E labels, M scores.
"""

import json
import sys
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from pipeline import stages
from pipeline.baselines.curves import asking, bench_pool, holdout_scores
from pipeline.baselines.curves.asking import History
from pipeline.baselines.curves.bench_pool import BenchPool
from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.tables import write_text
from pipeline.learn.stopping import forecast, observed_curve, power_law, subset_fits
from pipeline.learn.stopping.observed_curve import METRICS, Observed
from pipeline.learn.stopping.subset_fits import Labels
from pipeline.runtime import run_dir
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import Engine, make_engine
from tests.bench import pools, tables

POOLS = ("phantom", "covid3", "nih", "kermany")
FROM, AHEAD, BUDGET = (40, 60, 100), (20, 50, 100), 20
SIZES = sorted({n + step for n in FROM for step in (-BUDGET, 0, *AHEAD)})
ASKED_SHARE = 0.6  # of the patients of the training pool; the others' scans are never asked for and judge
PLACES = ("pool", "holdout")  # the unasked rest of the training pool; the pool's own holdout


@dataclass(frozen=True)
class Task:
    """One history: a pool and a seed."""

    pool: Path
    name: str
    seed: int
    folder: Path
    config: Config


def main(data: Path, given: Namespace) -> None:
    """Write `results/forecast.md` and `.json`."""
    folder = cache_folder() / "bench" / "forecast"
    engine = make_engine(config_file.load(None, {"engine.num_cpus": 2}).engine)
    try:
        tasks = [
            Task(pool_file(data, name, folder, engine), name, seed, folder / "histories", Config())
            for name in ([given.pool] if given.pool else POOLS)
            for seed in range(given.seeds)
        ]
        histories = dict(engine.map_shards(simulate, tasks))
    finally:
        engine.close()
    _write([histories[i] for i in range(len(tasks))], given.seeds)


def pool_file(data: Path, name: str, folder: Path, engine: Engine) -> Path:
    """A pool as the bench of selection keeps it; read and embedded by the product, unless that was done before."""
    path = folder / "pools" / f"{name}.safetensors"
    if path.exists():
        return path
    uri_of = dict(named.split("=", 1) for named in pools.four(data, folder))
    config = config_file.load(None, {"pool.uri": uri_of[name]})
    run = folder / "pools" / name
    run.mkdir(parents=True, exist_ok=True)
    run_dir.write_config(run, config)
    ctx = StageContext(config, run, engine)
    stages.run_stages(ctx, stages.READ)
    bench_pool.write(ctx, path)
    return path


# --- a history --------------------------------------------------------------------------------------------------------


def simulate(task: Task) -> dict[str, Any]:
    """What was observed at each number of labels, and what came; kept in a file, so that the bench goes on."""
    path = task.folder / f"{task.name}-{task.seed}.json"
    if not path.exists():
        write_text(path, json.dumps(_simulate(task)))
    history: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return history


def _simulate(task: Task) -> dict[str, Any]:
    whole = bench_pool.load(task.pool)
    rng = np.random.default_rng([task.seed, len(task.name)])
    groups = rng.permutation(np.unique(whole.group_T))
    asked_T = np.isin(whole.group_T, groups[: round(ASKED_SHARE * len(groups))])
    pool = replace(
        whole,
        x_TP=whole.x_TP[asked_T],
        similar_TP=whole.similar_TP[asked_T],
        class_T=whole.class_T[asked_T],
        group_T=whole.group_T[asked_T],
    )
    rows_E = _asked(task, pool)
    rest = {"pool": (whole.x_TP[~asked_T], whole.class_T[~asked_T]), "holdout": (whole.x_HP, whole.class_H)}
    came = {
        place: [_scores(pool, rows_E[:n], x, truth, task.config) for n in SIZES] for place, (x, truth) in rest.items()
    }
    observed = {}
    for n in FROM:
        observed[n] = _observe(pool, rows_E[:n], task)
    sys.stderr.write(f"{task.name} seed {task.seed}\n")
    return {"pool": task.name, "seed": task.seed, "sizes": SIZES, "came": came, "observed": observed}


def _asked(task: Task, pool: BenchPool) -> np.ndarray:
    """Positions of the scans that the default queue asks for, in order, to the largest size."""
    history = History(
        pool=task.pool,
        name=task.name,
        rare=None,
        strategy=task.config.strategy.name,
        seed=task.seed,
        budgets=tuple(range(BUDGET, SIZES[-1] + 1, BUDGET)),
        config=task.config,
    )
    *_, last = asking.ask(history, pool)
    return last.rows_L


def _scores(pool: BenchPool, rows_E: np.ndarray, x_NP: np.ndarray, truth_N: np.ndarray, config: Config) -> list[float]:
    """The scores (M,) of a head on these labels; NaN before there are two classes."""
    class_E = pool.class_T[rows_E]
    if len(np.unique(class_E)) < 2:
        return [float("nan")] * len(METRICS)
    weight_CP, bias_C = subset_fits.fit_head(pool.x_TP[rows_E], class_E, len(pool.findings), config.train.teacher_l2)
    prob_NC = softmax(x_NP @ weight_CP.T + bias_C, axis=1)
    called_N = prob_NC.argmax(1)
    found = [float((called_N[truth_N == c] == c).mean()) for c in np.unique(truth_N)]
    return [
        holdout_scores.score(prob_NC, called_N, truth_N).auroc,
        float((called_N == truth_N).mean()),
        float(np.mean(found)),
    ]


def _observe(pool: BenchPool, rows_E: np.ndarray, task: Task) -> dict[str, Any]:
    """The observed curves of these labels, or why they are too few."""
    options, train = task.config.stop, task.config.train
    class_E, group_E = pool.class_T[rows_E], [str(group) for group in pool.group_T[rows_E]]
    why = forecast.too_early(class_E, group_E, pool.findings, options)
    if why:
        return {"why": why}
    labels = Labels(pool.x_TP[rows_E], class_E, group_E, len(pool.findings))
    rng = np.random.default_rng([task.seed, len(rows_E)])
    draws = [subset_fits.fit_draw(labels, train, int(seed)) for seed in rng.integers(2**31, size=options.num_repeats)]
    curves = observed_curve.observe(draws, class_E, group_E, rng)
    return {"why": ""} | {
        name: [curve.size_S.tolist(), curve.score_S.tolist(), curve.covariance_SS.tolist()]
        for name, curve in curves.items()
    }


# --- forecasts against what came --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """One forecast and what came.

    Attributes:
        mean: Forecast gain.
        low, high: Its interval.
        came: The gain that came.
        last: What "the last gain goes on" says: that of the last 20 labels, on the very scans that judge, a label.
    """

    mean: float
    low: float
    high: float
    came: float
    last: float


def outcome(history: dict[str, Any], n: int, ahead: int, metric: str, place: str) -> Outcome | None:
    """The forecast after n labels of the gain of `ahead` more, and what came; None where nothing was forecast."""
    observed = history["observed"][str(n)]
    if observed["why"]:
        return None
    size_S, score_S, covariance_SS = (np.array(part) for part in observed[metric])
    options = Config().stop
    gain = power_law.fit(Observed(size_S, score_S, covariance_SS), n).gain(ahead, options.confidence)
    came = dict(zip(history["sizes"], (row[METRICS.index(metric)] for row in history["came"][place]), strict=True))
    last = (came[n] - came[n - BUDGET]) / BUDGET
    return Outcome(gain.mean, gain.low, gain.high, came[n + ahead] - came[n], 0.0 if np.isnan(last) else last * ahead)


def _cells(found: list[Outcome]) -> list[str]:
    """Gain that came, forecast, mean error, absolute errors of the three, width, coverage with its own interval."""
    error = [o.mean - o.came for o in found]
    inside = [o.low <= o.came <= o.high for o in found]
    return [
        tables.mean_ci([o.came for o in found]),
        tables.mean_ci(error),
        f"{np.mean(np.abs(error)):.3f}",
        f"{np.mean([abs(o.came) for o in found]):.3f}",
        f"{np.mean([abs(o.last - o.came) for o in found]):.3f}",
        f"{np.mean([o.high - o.low for o in found]):.3f}",
        f"{100 * np.mean(inside):.0f} % ({sum(inside)} of {len(inside)})",
    ]


def _collected(histories: list[dict[str, Any]], n: int, ahead: int, metric: str, place: str) -> list[Outcome]:
    found = (outcome(history, n, ahead, metric, place) for history in histories)
    return [o for o in found if o is not None and np.isfinite(o.came)]


HEADER = (
    "forecasts",
    "gain that came",
    "error",
    "absolute error",
    "of “nothing changes”",
    "of “the last gain goes on”",
    "width",
    "inside",
)


def _write(histories: list[dict[str, Any]], num_seeds: int) -> None:
    """Two tables: AUROC step by step, and every score on both judges."""
    names = list(dict.fromkeys(history["pool"] for history in histories))
    of_pool = {name: [history for history in histories if history["pool"] == name] for name in names}
    steps, scores = [], []
    for name, own in of_pool.items():
        for n in FROM:
            for ahead in AHEAD:
                found = _collected(own, n, ahead, "auroc", "pool")
                steps.append(
                    [name, n, f"+{ahead}", f"{len(found)} of {len(own)}", *(_cells(found) if found else ["–"] * 7)]
                )
    for metric in METRICS:
        for place in PLACES:
            for name, own in of_pool.items():
                found = [o for n in FROM for ahead in AHEAD for o in _collected(own, n, ahead, metric, place)]
                shown = _cells(found) if found else ["–"] * 7
                scores.append([metric.replace("_", " "), PLACE_NAMES[place], name, len(found), *shown])
    command = f"python -m tests.bench forecast --seeds {num_seeds}"
    title = "What further labels buy in AUROC, forecast and come"
    tables.write("forecast", title, command, ("pool", "labels", "further", *HEADER), steps, NOTES)
    title = "Forecasts of every score, on two judges"
    tables.write("forecast-scores", title, command, ("score", "judge", "pool", *HEADER), scores, NOTES)
    kept = {"steps": steps, "scores": scores, "seeds": num_seeds}
    write_text(tables.RESULTS / "forecast.json", json.dumps(kept, indent=1) + "\n")


PLACE_NAMES = {"pool": "unasked scans of the pool", "holdout": "holdout"}
NOTES = (
    "Histories of the default queue, 20 labels a time, from three fifths of the training pool's patients. After 40, 60 "
    "and 100 labels the gain of further labels is forecast from those labels alone, as `cxr-ssl run` does it; then the "
    "history goes on, and the head on expert labels is scored on scans of the other patients (of the holdout: as the "
    "pool splits it). *Forecasts*: of how many seeds; the others were too early to say (a class of fewer than 5 "
    "labels). *Error*: forecast less what came, mean ± 95 % t-interval over seeds; *absolute error*: its mean size, "
    "beside that of two naive forecasts; “the last gain goes on” knows the true gain of the last 20 labels on the very "
    "scans that judge, which no run can. *Width* and *inside*: of the 90 % prediction interval. Nothing was fitted to "
    "these histories: the prior of the exponent and the spread by luck were set beforehand, from the means and "
    "half-widths in `strategies.md`, which are of other draws, on holdouts."
)
