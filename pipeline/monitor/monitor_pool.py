"""From a run and a pool to a verdict: `monitor.json`, a line of the history, and the page."""

import dataclasses
import json
import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text
from pipeline.monitor import history, judgement, page, scans
from pipeline.monitor.judgement import Judgement, Model
from pipeline.monitor.scans import Batch, Reference
from pipeline.monitor.streams import Comparison, OutsideRule
from pipeline.predict import other_scans, predictor, recipe
from pipeline.predict.recipe import Recipe
from pipeline.runtime import run_dir, run_files

log = logging.getLogger(__name__)
Report = Callable[[str, int, int], None]


def monitor(folder: Path, address: str, out: Path, overrides: dict[str, Any], report: Report) -> dict[str, Any]:
    """Say whether the scans of a pool are still like those that a run's model was judged on.

    Args:
        folder: The run, or one finding's part of it.
        address: Of the pool.
        out: Folder of the batches so far, or a new one.
        overrides: Options of the pool, of `monitor`, `predict` and `engine`.
        report: Called with (what, done, total).

    Returns:
        The content of `monitor.json`, with "out", "page" and "num_batches".

    Raises:
        InputError: the pool cannot be read or holds no usable scan that is new, the run has no classifier to predict
            with, or `out` holds something else.
    """
    run_dir.config_of(folder)  # it is a run
    config = other_scans.config_for(folder, address, overrides)
    how = recipe.of_run(folder, config)
    code = run_files.run_code(how.questions[0].folder) or how.run.name
    before = history.read(out, code)
    pool = other_scans.open_scans(config)
    reference = scans.reference_of(how, config, report)
    batch = scans.batch_of(how, pool, config, report, config.monitor.max_scans, config.seed)
    _refuse_nothing(batch, address)
    model = predictor.load(how)
    judged = judgement.judge(
        reference.sample,
        batch.sample,
        reference.side,
        _model(how, model),
        _rule(how, model),
        config.monitor,
        config.seed,
    )
    content = described(judged, reference, batch, how, config, address)
    write_text(_made(out) / history.RESULT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    lines = [*before, history.append(out, code, content)]
    write_text(out / history.PAGE, page.html(content, lines, reference.sample, batch))
    _say(content)
    return content | {"out": str(out), "page": str(out / history.PAGE), "num_batches": len(lines)}


def _made(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    return out


def _refuse_nothing(batch: Batch, address: str) -> None:
    if len(batch.sample):
        return
    known, broken = sum(batch.in_run.values()), sum(batch.reasons.values())
    reason = next(iter(batch.reasons), None)
    raise InputError(
        f"none of its {batch.num_scans} scans can be compared: {known} are files of the run itself, {broken} "
        "are unusable" + (f" ({reason})" if reason else ""),
        value=address,
        where="POOL",
        fix="give scans that the run has not seen; of the run's own `cxr-ssl evaluate` says how good the model is",
    )


def _model(how: Recipe, loaded: predictor.Predictor) -> Model:
    judged = {question.finding: judgement.judged_by(question.folder) for question in how.questions}
    return Model(loaded.findings, None not in loaded.priors, loaded.priors, judged)


def _rule(how: Recipe, loaded: predictor.Predictor) -> OutsideRule | None:
    if loaded.outside.threshold(how.false_alarm_rate) is None:
        return None
    return OutsideRule(len(loaded.outside.held_out_H), how.false_alarm_rate)


def described(
    judged: Judgement, reference: Reference, batch: Batch, how: Recipe, config: Config, address: str
) -> dict[str, Any]:
    """The content of `monitor.json`; nothing in it changes from one call to the next."""
    options = config.monitor
    rule = judgement.RULE.format(
        level=options.false_alarm_rate,
        outside=options.retrain_outside_share,
        loss=options.retrain_accuracy_loss,
        fewest=judgement.FEWEST,
    )
    return {
        "verdict": judged.verdict,
        "exit_code": judgement.EXIT_CODES[judged.verdict],
        "why": judged.why,
        "rule": rule,
        "cause": None if judged.cause is None else dataclasses.asdict(judged.cause),
        "pool": address,
        "run": str(how.run),
        "round": max(question.round_index or 0 for question in how.questions),
        "reference": {
            "side": reference.side,
            "num_scans": len(reference.sample),
            "num_patients": reference.sample.num_groups,
        },
        "batch": {
            "num_scans": batch.num_scans,
            "num_compared": len(batch.sample),
            "num_patients": batch.sample.num_groups,
            "num_unusable": sum(batch.reasons.values()),
            "reasons": batch.reasons,
            "in_run": batch.in_run,
            "num_repeated": batch.num_repeated,
        },
        "share_outside": judged.share_outside,
        "accuracy": {name: dataclasses.asdict(estimate) for name, estimate in judged.accuracy.items()},
        "prevalence": {
            name: {
                method: {finding: dataclasses.asdict(estimate) for finding, estimate in of.items()}
                for method, of in methods.items()
            }
            for name, methods in judged.shares.items()
        },
        "streams": _streams(judged.comparison),
        "streams_at_the_batch_mix": None if judged.beyond_mix is None else _streams(judged.beyond_mix),
        "not_compared": judged.comparison.not_compared,
        "slices_that_grew": [
            {"cluster": cluster, "reference": shares[0], "batch": shares[1]}
            for cluster, shares in judged.comparison.growth.items()
        ],
        "cannot_tell": judged.cannot_tell,
        "next": to_learn_them(judged, how, address),
    }


def to_learn_them(judged: Judgement, how: Recipe, address: str) -> str | None:
    """The command by which the run learns a batch called retrain; None of another verdict, or where it must not."""
    if judged.verdict != judgement.RETRAIN or (judged.cause is not None and not judged.cause.is_learnable):
        return None
    command = ["cxr-ssl", "run", "--grow", address, "--out", str(how.run), "--resume"]
    return shlex.join(command)


def _streams(comparison: Comparison) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in dict.fromkeys(reading.stream for reading in comparison.readings):
        readings = comparison.of(name)
        out[name] = {
            "moved": any(reading.moved for reading in readings),
            "p_holm": min(reading.p_holm for reading in readings),
            "variables": [
                {key: value for key, value in dataclasses.asdict(reading).items() if key != "stream"}
                for reading in readings
            ],
        }
    return out


def _say(content: dict[str, Any]) -> None:
    """What a reader must not overlook."""
    batch = content["batch"]
    if batch["in_run"]:
        sides = ", ".join(f"{num} of its {side} scans" for side, num in batch["in_run"].items())
        log.warning(
            "%d of %d scans are files that the run has itself (%s): they are left out, for the model has seen them",
            sum(batch["in_run"].values()),
            batch["num_scans"],
            sides,
        )
    if batch["num_repeated"]:
        log.warning("%d scans are further copies of files of the batch and left out", batch["num_repeated"])
    if batch["num_unusable"]:
        reason, num = next(iter(batch["reasons"].items()))
        log.warning("%d of %d scans are unusable: %d x %s", batch["num_unusable"], batch["num_scans"], num, reason)
    for line in content["cannot_tell"]:
        log.info("cannot be told: %s", line)
