"""From a run and a pool to a file of predictions: shard by shard, in the pool's order, whatever finishes first."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.config import Config
from pipeline.labels.decision_thresholds import Rules
from pipeline.pool import reading
from pipeline.pool.sources import Pool
from pipeline.predict import columns, decisions, other_scans, predictor, recipe, scan_shard, writers
from pipeline.predict.dicom_objects import structured_report
from pipeline.predict.heat_maps import of_run
from pipeline.predict.heat_maps.occlusion import Reference
from pipeline.predict.recipe import Recipe
from pipeline.predict.scan_files import NewFolder, ScanFiles, write_checks
from pipeline.predict.scan_shard import Shard
from pipeline.runtime import run_dir
from pipeline.runtime.engine import Engine, LazyShards, SerialEngine, make_engine
from pipeline.runtime.guarded_process import GuardError

log = logging.getLogger(__name__)
MAX_REASONS = 5  # that are named in the log
Report = Callable[[str, int, int], None]


@dataclass
class Counts:
    """What a prediction has come to so far.

    Attributes:
        num_scans: Rows.
        reasons: Why scans are unusable.
        answers: How often each answer was given.
        num_outside: Scans outside what the model knows.
        in_run: Scans whose very file the run has, by side.
        notes: What a reader should know of how scans were read.
    """

    num_scans: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    num_outside: int = 0
    in_run: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table) -> None:
        """Count the rows of a shard."""
        self.num_scans += len(table)
        self.reasons.update(table.filter(pc.equal(table["status"], columns.UNUSABLE))["reason"].to_pylist())
        self.answers.update(table["answer"].drop_null().to_pylist())
        self.num_outside += pc.sum(table["outside"]).as_py() or 0
        self.in_run.update(table["in_run"].drop_null().to_pylist())
        self.notes.update(table["note"].drop_null().to_pylist())


@dataclass(frozen=True)
class Beside:
    """What is wanted beside the rows.

    Attributes:
        heat_maps: New folder for pictures of the heat maps; None: none are made.
        dicom: New folder for structured reports of DICOM scans and, with `heat_maps`, secondary captures; None: none.
    """

    heat_maps: Path | None = None
    dicom: Path | None = None


def predict(
    folder: Path, address: str, out: str, overrides: dict[str, Any], report: Report, beside: Beside | None = None
) -> dict[str, Any]:
    """Predict the scans of a pool with the classifier of a run's last round.

    Args:
        folder: The run, or one finding's part of it.
        address: Of the pool, or of one file.
        out: File, or folder of JSON files, that is written, see `writers`.
        overrides: Options of the pool to predict, of `predict` and of `engine`.
        report: Called with (what, done, total).
        beside: What else is written; None: nothing.

    Returns:
        {"out", "run", "round", "false_alarm_rate", "outside_measured_on", "decides", "num_scans", "num_unusable",
        "reasons", "answers", "num_outside", "num_in_run", "heat_maps", "dicom", "seconds"}.

    Raises:
        InputError: `out` cannot be written, the pool cannot be read, the run has no classifier to predict with, or no
            heat map of it has passed its checks.
    """
    start = time.perf_counter()
    writers.check(out)
    beside = beside or Beside()
    heat_maps = None if beside.heat_maps is None else NewFolder(beside.heat_maps, "--heat-maps")
    dicom = None if beside.dicom is None else NewFolder(beside.dicom, "--dicom")
    run_dir.config_of(folder)  # it is a run
    config = other_scans.config_for(folder, address, overrides)
    how = recipe.of_run(folder, config)
    pool = other_scans.open_scans(config)
    model = loaded(how)
    rules = decisions.rules_of(how.questions)
    about = _about(how, model) | {"decides": sorted(rules)}
    counts = Counts()
    with ExitStack() as stack:
        output = stack.enter_context(writers.Output(out, columns.schema(model.findings, list(rules)), about))
        folders = [None if new is None else stack.enter_context(new).partial for new in (heat_maps, dicom)]
        files = scan_files(model, rules, *folders)
        for table in _tables(how, pool, config, files, report):
            table = decisions.decided(table, rules, model.findings)
            counts.add(table)
            output.write(table)
    _say(counts)
    return {
        "out": out,
        **about,
        "num_scans": counts.num_scans,
        "num_unusable": counts.reasons.total(),
        "reasons": dict(counts.reasons.most_common()),
        "answers": dict(counts.answers.most_common()),
        "num_outside": counts.num_outside,
        "num_in_run": dict(sorted(counts.in_run.items())),
        "dicom": str(beside.dicom) if dicom is not None else None,
        "heat_maps": {"out": str(beside.heat_maps), "findings": sorted(files.references)}
        if heat_maps is not None
        else None,
        "seconds": round(time.perf_counter() - start, 3),
    }


def scan_files(model: predictor.Predictor, rules: Rules, heat_maps: Path | None, dicom: Path | None) -> ScanFiles:
    """What every task writes beside its rows.

    Args:
        model: What predicts.
        rules: Thresholds of what is decided.
        heat_maps: Folder for them; None: none are made.
        dicom: Folder for DICOM objects; None: none are made.

    Raises:
        InputError: no heat map of the model has passed its checks, or the library that writes reports is missing.
    """
    references: dict[str, Reference] = {}
    if dicom is not None:
        structured_report.refuse_without_library()
    if heat_maps is not None:
        known = of_run.checked(model)
        references = known.shown("--heat-maps")
        write_checks(heat_maps, known.checks)
    return ScanFiles(heat_maps, references, dicom, recipe.identity(model.recipe), rules)


def loaded(how: Recipe) -> predictor.Predictor:
    """The predictor; what reads files is started beside it, for both take their time."""
    with ThreadPoolExecutor(1) as beside, contextlib.suppress(GuardError):  # which says so again of every file
        started = beside.submit(reading.start, how.reading)
        model = predictor.load(how)
        started.result()
    return model


def _about(how: Recipe, model: predictor.Predictor) -> dict[str, Any]:
    """Where predictions come from."""
    return {
        "run": str(how.run),
        "round": max(question.round_index or 0 for question in how.questions),
        "findings": list(model.findings),
        "false_alarm_rate": how.false_alarm_rate,
        "outside_measured_on": model.outside.held_out
        if model.outside.threshold(how.false_alarm_rate) is not None
        else None,
    }


def _tables(how: Recipe, pool: Pool, config: Config, files: ScanFiles, report: Report) -> Iterator[pa.Table]:
    """The rows of the pool, in its order."""
    size, num_scans = config.embed.shard_size, len(pool.scans)

    def shard(index: int) -> Shard:
        part = pool.scans.slice(index * size, size)
        return Shard(how, tuple(part["path"].to_pylist()), tuple(part["uri"].to_pylist()), files)

    shards = LazyShards(shard, -(-num_scans // size))
    known = other_scans.ScansOfRun(how.run)
    engine = _engine(config, len(shards))
    waiting: dict[int, pa.Table] = {}
    following = done = 0
    try:
        report("predict", 0, num_scans)
        for index, table in engine.map_shards(scan_shard.predict_shard, shards, on_gpu=True):
            place = table.schema.get_field_index("in_run")
            waiting[index] = table.set_column(place, table.schema.field(place), known.sides(table["sha256"]))
            done += len(table)
            report("predict", done, num_scans)
            while following in waiting:
                yield waiting.pop(following)
                following += 1
    finally:
        engine.close()


def _engine(config: Config, num_shards: int) -> Engine:
    """Where the shards run: one shard in this process, whatever the run had, for a cluster takes seconds to start."""
    return SerialEngine() if num_shards < 2 else make_engine(config.engine)


def _say(counts: Counts) -> None:
    """What a reader must not overlook."""
    if counts.reasons:
        named = "; ".join(f"{num} x {reason}" for reason, num in counts.reasons.most_common(MAX_REASONS))
        log.warning("%d of %d scans are unusable: %s", counts.reasons.total(), counts.num_scans, named)
    if counts.notes:
        named = "; ".join(f"{num} x {note}" for note, num in counts.notes.most_common(MAX_REASONS))
        log.warning("%d of %d scans have a note (column note): %s", counts.notes.total(), counts.num_scans, named)
    if counts.in_run:
        sides = ", ".join(f"{num} of its {side} scans" for side, num in sorted(counts.in_run.items()))
        log.warning(
            "%d of %d scans are files that the run has itself (%s; column in_run): what is said of those it learned "
            "from is no evidence",
            counts.in_run.total(),
            counts.num_scans,
            sides,
        )
    if counts.num_outside:
        log.warning(
            "%d of %d scans lie outside what the model knows (column outside): do not rely on their probabilities",
            counts.num_outside,
            counts.num_scans,
        )
