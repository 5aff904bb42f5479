"""The two sides of the comparison: the run's own scans, and the batch; read, embedded and predicted alike."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts.config import Config
from pipeline.contracts.tables import CLUSTERS, MANIFEST, SPLIT_TABLE, write_parquet
from pipeline.monitor import observation
from pipeline.monitor.sample import Sample, of_table
from pipeline.pool.sources import Pool
from pipeline.predict import other_scans
from pipeline.predict.outside import FEWEST_HELD_OUT
from pipeline.predict.recipe import Recipe
from pipeline.predict.scan_shard import Shard
from pipeline.runtime import private_files, run_dir, run_files
from pipeline.runtime.engine import SerialEngine, make_engine
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors
from pipeline.vectors.row_blocks import row_blocks

log = logging.getLogger(__name__)
VERSION = 2  # raise it whenever a column means something else
HOLDOUT, TRAINING = "holdout", "training"
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Reference:
    """The run's own scans that a batch is held against.

    Attributes:
        sample: As streams see them.
        side: `holdout`; or `training`: scans of the pool that nobody was asked about, where the holdout is too small.
    """

    sample: Sample
    side: str


@dataclass(frozen=True)
class Batch:
    """The new scans.

    Attributes:
        sample: Those that are compared.
        num_scans: All.
        reasons: Why scans could not be used, and how many.
        in_run: Scans whose very file the run has, by side; they are left out.
        num_repeated: Further copies of a file of the batch itself, left out as well.
        uris: Where each scan of `sample` is read from.
    """

    sample: Sample
    num_scans: int
    reasons: dict[str, int]
    in_run: dict[str, int]
    num_repeated: int
    uris: list[str]


def reference_of(how: Recipe, config: Config, report: Report) -> Reference:
    """The run's holdout, or training scans that were never asked about; observed once and kept in the run."""
    manifest, splits = run_files.read(how.run, MANIFEST), run_files.read(how.run, SPLIT_TABLE)
    side, chosen = _chosen(how, manifest, splits, config.monitor.max_scans)
    path = run_files.path(how.run, run_files.MONITOR_REFERENCE)
    fingerprint = _fingerprint(how, chosen)
    table = _kept(path, fingerprint)
    if table is None:
        table = observed(how, chosen["path"].to_pylist(), chosen["uri"].to_pylist(), config, report, "reference")
        place = [chosen.schema.get_field_index(name) for name in ("source", "population", "sex", "view", "age_years")]
        for column in (chosen.field(index) for index in place):
            table = with_values_of_pool(table, column.name, chosen[column.name])
        table = table.drop_columns([observation.PATIENT, "path"])  # where scans lie stands in the manifest alone
        table = table.append_column("group_id", chosen["group_id"])
        with private_files.readable_by(how.run):
            _keep(path, table, fingerprint)
    sample = of_table(table, table["group_id"].to_pylist(), slice_centres(how.run, _width(table)))
    return Reference(sample, side)


def batch_of(how: Recipe, pool: Pool, config: Config, report: Report, max_scans: int, seed: int) -> Batch:
    """Observe the scans of a pool; what the run has itself is counted and left out."""
    scans = pool.scans
    table = observed(how, scans["path"].to_pylist(), scans["uri"].to_pylist(), config, report, "monitor")
    sides = other_scans.ScansOfRun(how.run).sides(table["sha256"])
    for name in ("source", "population", "sex", "view", "age_years"):
        table = with_values_of_pool(table, name, scans[name])
    patients = pc.coalesce(scans["patient_id"], table[observation.PATIENT])
    is_new_N = np.asarray(pc.is_null(sides))
    first_N = _is_first(table["sha256"].to_pylist())
    unusable = table.filter(pc.equal(table["status"], "unusable"))
    reasons = {row["values"]: row["counts"] for row in pc.value_counts(unusable["reason"]).to_pylist()}
    kept = np.flatnonzero(is_new_N & first_N)
    kept_table = table.take(pa.array(kept, pa.int64()))
    place = pa.array(np.arange(len(kept)))
    kept_table = kept_table.append_column("place", place)
    names = patients.take(pa.array(kept, pa.int64())).to_pylist()
    width = _width(kept_table)
    sample = of_table(kept_table, names, slice_centres(how.run, width) if width else np.empty((0, 0)))
    sample = sample.drawn(max_scans, np.random.default_rng(seed))
    uris = scans["uri"].to_pylist()
    in_run = {row["values"]: row["counts"] for row in pc.value_counts(sides.drop_null()).to_pylist()}
    return Batch(
        sample=sample,
        num_scans=len(table),
        reasons=dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
        in_run=dict(sorted(in_run.items())),
        num_repeated=int((is_new_N & ~first_N).sum()),
        uris=[uris[kept[row]] for row in sample.table["place"].to_pylist()],
    )


def observed(how: Recipe, paths: list[str], uris: list[str], config: Config, report: Report, what: str) -> pa.Table:
    """Rows of `observation.schema`, in order, whatever finishes first."""
    size = config.embed.shard_size
    starts = range(0, len(paths), size)
    shards = [Shard(how, tuple(paths[start : start + size]), tuple(uris[start : start + size])) for start in starts]
    engine = SerialEngine() if len(shards) < 2 else make_engine(config.engine)
    done: dict[int, pa.Table] = {}
    try:
        report(what, 0, len(paths))
        for index, table in engine.map_shards(observation.observe_shard, shards, on_gpu=True):
            done[index] = table
            report(what, sum(map(len, done.values())), len(paths))
    finally:
        engine.close()
    return pa.concat_tables([done[index] for index in range(len(shards))])


def slice_centres(folder: Path, num_features: int) -> np.ndarray:
    """Centre (K, Q) of each of the run's clusters in the features that are compared; none where it has no clusters."""
    path = run_files.path(folder, CLUSTERS.file)
    if not path.exists() or not num_features:
        return np.empty((0, num_features))
    from pipeline.predict import outside

    clusters = run_files.read(folder, CLUSTERS)
    vectors = Vectors.open(folder)
    ids = clusters["image_id"].filter(vectors.has(clusters["image_id"]))
    cluster_N = clusters.filter(vectors.has(clusters["image_id"]))["cluster"].to_numpy()
    scale_Q = outside.of_run(folder).scale_Q
    x_NP, row_N = principal_components.load(folder), vectors.positions(ids)
    num_clusters = int(cluster_N.max()) + 1
    sums = np.zeros((num_clusters, len(scale_Q)))
    for rows in row_blocks(len(row_N)):
        x_BQ = x_NP[row_N[rows]][:, : len(scale_Q)] * scale_Q
        np.add.at(sums, cluster_N[rows], x_BQ.astype(np.float64))
    return np.asarray(sums / np.maximum(np.bincount(cluster_N, minlength=num_clusters), 1)[:, None])


def with_values_of_pool(table: pa.Table, name: str, by_pool: pa.ChunkedArray) -> pa.Table:
    """A column filled with what the pool says, and where it says nothing with what the file does."""
    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    column = by_pool.cast(field.type)
    if name == "view":
        column = pc.if_else(pc.equal(column, "unknown"), None, column)
    return table.set_column(place, field, pc.coalesce(column, table[name]))


def _chosen(how: Recipe, manifest: pa.Table, splits: pa.Table, max_scans: int) -> tuple[str, pa.Table]:
    """Rows of the manifest that are the reference, with their group, and which side they are of."""
    place = pc.index_in(manifest["image_id"], value_set=splits["image_id"].combine_chunks())
    rows = manifest.append_column("split", splits["split"].take(place)).append_column(
        "group_id", splits["group_id"].take(place)
    )
    rows = rows.filter(pc.equal(rows["status"], "ok"))
    held_out = rows.filter(pc.equal(rows["split"], "holdout"))
    side = HOLDOUT if len(pc.unique(held_out["group_id"])) >= FEWEST_HELD_OUT else TRAINING
    if side == HOLDOUT:
        rows = held_out
    else:
        asked = {image_id for question in how.questions for image_id in run_files.asked(question.folder)}
        rows = rows.filter(pc.equal(rows["split"], "train"))
        unasked = rows.filter(pc.invert(pc.is_in(rows["image_id"], pa.array(sorted(asked), pa.string()))))
        rows = unasked if len(pc.unique(unasked["group_id"])) >= FEWEST_HELD_OUT else rows
    if len(rows) > max_scans:
        groups = np.array(rows["group_id"].to_pylist())
        names, place_N = np.unique(groups, return_inverse=True)
        order = np.random.default_rng(0).permutation(len(names))
        kept = order[np.cumsum(np.bincount(place_N)[order]) <= max_scans]
        rows = rows.filter(pa.array(np.isin(place_N, kept)))
    return side, rows


def _is_first(contents: list[str | None]) -> np.ndarray:
    """Whether a file's content comes for the first time; what could not be read always does."""
    seen: set[str] = set()
    first = []
    for content in contents:
        first.append(content is None or content not in seen)
        seen.add(content or "")
    return np.array(first, bool)


def _width(table: pa.Table) -> int:
    lists = table["features"].drop_null()
    return len(lists[0]) if len(lists) else 0


def _fingerprint(how: Recipe, chosen: pa.Table) -> str:
    """Changes with the scans, the model and how far scans are outside."""
    models = {
        str(question.finding): run_dir.file_hash(question.model / run_files.CARD)
        for question in how.questions
        if question.round_index is not None
    }
    parts = {
        "version": VERSION,
        "ids": run_files.digest(*chosen["image_id"].to_pylist()),
        "models": models,
        "basis": run_dir.file_hash(run_files.path(how.run, run_files.BASIS)),
        "rate": how.false_alarm_rate,
    }
    return run_dir.fingerprint(parts)


def _kept(path: Path, fingerprint: str) -> pa.Table | None:
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException):
        return None
    return table if (table.schema.metadata or {}).get(b"fingerprint") == fingerprint.encode() else None


def _keep(path: Path, table: pa.Table, fingerprint: str) -> None:
    try:
        write_parquet(path, table.replace_schema_metadata({b"fingerprint": fingerprint.encode()}))
    except OSError as error:  # a run that may only be read: it is worked out again the next time
        log.info("the reference is not kept: %s", error)
