"""Does `monitor` see what was planted into batches of real scans, call it by its name, and keep still otherwise?

A run on kermany's own patients seals two fifths of them. Of those each draw makes a reference of up to 500 scans and a
batch of 200 of other patients, both with 30 % pneumonia; then something is done to the batch. Everything is embedded
once, and what is drawn is what `monitor` compares: rows of its own tables.
"""

import csv
import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.ndimage import gaussian_filter

from pipeline.audit import overrides as overrides_of_audit
from pipeline.commands import request, run
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.options.evidence import MonitorConfig
from pipeline.contracts.tables import MANIFEST, POOL_LABELS, write_text
from pipeline.monitor import judgement, observation, sample, scans
from pipeline.monitor.judgement import Judgement, Model
from pipeline.monitor.label_shift import Judged
from pipeline.monitor.sample import Sample
from pipeline.monitor.streams import OutsideRule
from pipeline.predict import columns, other_scans, predictor, recipe, scan_shard
from pipeline.predict.predictor import Predictor
from pipeline.runtime import run_dir, run_files
from tests.bench import outside, pools, tables

BATCH, REFERENCE, SHARE = 200, 500, 0.3  # scans, and pneumonia among them
UNSHIFTED, SHIFTED = 40, 8  # batches a seed
POSITIVE = "pneumonia"
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CHANGES: dict[str, tuple[str, Change]] = {
    "brightness": ("+0.08 of white", lambda x, _: np.clip(x + 0.08, 0, 1)),
    "contrast": ("x 0.75 around the mean", lambda x, _: x.mean() + 0.75 * (x - x.mean())),
    "blur": ("Gaussian, 1 px of 224", lambda x, _: gaussian_filter(x, 1.0)),
    "noise": ("Gaussian, 0.03 of white", lambda x, rng: np.clip(x + rng.normal(0, 0.03, x.shape), 0, 1)),
    "inverted": ("1 - x", lambda x, _: 1 - x),
}
ADULTS, HIDDEN, MIX = "source", "source, no metadata", "prevalence"
MASS, VIRAL, CT = "other scans, a mass", "other scans, viral pneumonia", "other scans, CT slices"
PLAIN = "nothing"
SHIFTS = (*CHANGES, ADULTS, HIDDEN, MIX, MASS, VIRAL, CT)


def with_mass(square_SS: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A round opacity of an eighth to a sixth of the side in one of the lungs, as bright as bone at its middle."""
    side = len(square_SS)
    y, x = (rng.uniform(0.35, 0.6) * side, (0.3 if rng.random() < 0.5 else 0.7) * side)
    radius = rng.uniform(1 / 16, 1 / 12) * side
    rows_S, columns_S = np.arange(side)[:, None], np.arange(side)[None]
    inside_SS = 1 / (1 + np.exp((np.hypot(rows_S - y, columns_S - x) - radius) / 1.5))
    return np.asarray(square_SS + inside_SS * np.clip(0.8 - square_SS, 0, 1))


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/monitor.md`."""
    folder = kermany_run(data)
    config = other_scans.config_for(folder, "bench", {})
    how = recipe.of_run(folder, config)
    model = predictor.load(how)
    drawn = _Draws(data, folder, how, model)
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in (PLAIN, *SHIFTS)}
    for seed in range(given.seeds):
        for kind, batches in results.items():
            batches += _kept_or_drawn(drawn, kind, seed)
        _write(results, seed + 1)


def _kept_or_drawn(drawn: "_Draws", kind: str, seed: int) -> list[dict[str, Any]]:
    """The batches of one kind and seed; those of a try that was cut off are kept, as long as no code has changed."""
    code = sorted([*Path(judgement.__file__).parent.glob("*.py"), Path(__file__)])
    key = run_dir.fingerprint({"code": [run_dir.file_hash(path) for path in code], "kind": kind, "seed": seed})
    path = drawn.home / "batches" / f"{key}.json"
    if not path.exists():
        rng = np.random.default_rng([seed, (PLAIN, *SHIFTS).index(kind)])
        batches = [drawn.judged(kind, rng) for _ in range(UNSHIFTED if kind == PLAIN else SHIFTED)]
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(batches))
    content: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return content


def kermany_run(data: Path) -> Path:
    """A run on kermany's training part, two fifths of whose patients are sealed; kept in the cache."""
    home = cache_folder() / "bench" / "monitor"
    if run_files.last_round(home / "kermany") is not None:
        return home / "kermany"
    wanted = {
        "pool.uri": str(pools.without_official_test(data, home)),
        **pools.OVERRIDES["kermany"],
        "rounds.num": 2,
        "queue.budget": 50,
        "oracle": True,
        "rounds.reference": False,
        "splits.holdout_fraction": 0.4,
    }
    accept = tuple(overrides_of_audit.parse(["metadata-predicts-label"], pools.BECAUSE))
    run.execute(request.Request(overrides=wanted, out=home / "kermany", resume=True, quiet=True, accept=accept))
    return home / "kermany"


class _Draws:
    """References and batches, drawn from tables that are made once."""

    def __init__(self, data: Path, folder: Path, how: recipe.Recipe, model: Predictor) -> None:
        self.how, self.loaded = how, model
        self.home = folder.parent
        self.centres = scans.slice_centres(folder, len(model.outside.scale_Q))
        config = other_scans.config_for(folder, "bench", {"monitor.max_scans": 100_000})
        self.clean = scans.reference_of(how, config, lambda *_: None).sample
        labels = POOL_LABELS.read(folder)
        label = dict(zip(labels["image_id"].to_pylist(), labels["label"].to_pylist(), strict=True))
        manifest = run_files.read(folder, MANIFEST)
        uri = dict(zip(manifest["image_id"].to_pylist(), manifest["uri"].to_pylist(), strict=True))
        ids = self.clean.table["image_id"].to_pylist()
        self.is_positive_N = np.array([label[image_id] == POSITIVE for image_id in ids])
        self.is_viral_N = _is_viral(folder, ids)
        self.changeable = self._changeable()
        uris = [uri[ids[row]] for row in self.changeable]
        planted = {kind: change for kind, (_, change) in CHANGES.items()} | {MASS: with_mass}
        self.changed = {kind: self._changed(kind, change, uris) for kind, change in planted.items()}
        self.adults = self._adults(data)
        self.slices = self._slices(data)
        self.rule = OutsideRule(len(model.outside.held_out_H), how.false_alarm_rate)

    def _changeable(self) -> np.ndarray:
        """Rows that changes are planted into: some of either class, of whole patients."""
        rng = np.random.default_rng(7)
        rows = [self._of_class(flag, num, set(), rng) for flag, num in ((False, 280), (True, 150))]
        return np.sort(np.concatenate(rows))

    def _of_class(
        self, flag: bool, num: int, taken: set[int], rng: np.random.Generator, is_viral: bool | None = None
    ) -> np.ndarray:
        """Rows of about so many scans of a class, patient after patient, of patients that are not taken yet.

        Args:
            flag: Whether it is pneumonia.
            num: Scans.
            taken: Patients, as numbers; those drawn are added.
            rng: Draws patients.
            is_viral: Of pneumonia only that kind.
        """
        is_wanted_N = self.is_positive_N == flag
        if flag and is_viral is not None:
            is_wanted_N &= self.is_viral_N == is_viral
        rows = np.flatnonzero(is_wanted_N)
        group_N = self.clean.group_N[rows]
        kept: list[np.ndarray] = []
        count = 0
        for group in rng.permutation(np.unique(group_N)):
            if count >= num:
                break
            if int(group) in taken:
                continue
            own = rows[group_N == group][: num - count]
            taken.add(int(group))
            kept.append(own)
            count += len(own)
        return np.concatenate(kept)

    def _changed(self, kind: str, change: Change, uris: list[str]) -> pa.Table:
        """The table of the changeable scans after one change."""
        path = self.home / f"changed-{kind.replace(', ', '-').replace(' ', '-')}.parquet"
        if not path.exists():
            rng = np.random.default_rng(0)
            rows = self.clean.table.take(pa.array(self.changeable)).to_pylist()
            for start in range(0, len(rows), 32):
                squares = [scan_shard.read_row("", uri, self.how.reading)[1] for uri in uris[start : start + 32]]
                changed = [np.asarray(change(square, rng), np.float32) for square in squares]
                observation.observe(rows[start : start + 32], changed, self.loaded)
            pq.write_table(pa.Table.from_pylist(rows, schema=self.clean.table.schema), path)
        return pq.read_table(path)

    def _adults(self, data: Path) -> Sample:
        """NIH adults as `monitor` sees a pool of them."""
        path = self.home / "adults.parquet"
        if not path.exists():
            pool = pools.nih_part(data, self.home)
            config = other_scans.config_for(self.how.run, str(pool), {"monitor.max_scans": 400})
            batch = scans.batch_of(self.how, other_scans.open_scans(config), config, lambda *_: None, 100_000, 0)
            group = pa.array([f"g{g}" for g in batch.sample.group_N])
            pq.write_table(batch.sample.table.append_column("group_id", group), path)
        table = pq.read_table(path)
        return sample.of_table(table, table["group_id"].to_pylist(), self.centres)

    def _slices(self, data: Path) -> Sample:
        """Parts of a capture of a CT, as `monitor` sees a pool of pictures that say nothing of themselves."""
        path = self.home / "ct-slices.parquet"
        if not path.exists():
            rng = np.random.default_rng(0)
            capture = data / "dicom" / "wg04" / "SC1_UNC"
            squares = outside.cut_out(capture, self.how.size_px, rng, BATCH)
            names = [f"ct-{i:03d}" for i in range(BATCH)]
            rows: list[dict[str, Any]] = [
                {"path": name, "image_id": name, "sha256": name, "status": columns.OK} for name in names
            ]
            for start in range(0, BATCH, 32):
                observation.observe(rows[start : start + 32], squares[start : start + 32], self.loaded)
            pq.write_table(pa.Table.from_pylist(rows, schema=self.clean.table.schema), path)
        return sample.of_table(pq.read_table(path), [None] * BATCH, self.centres)

    def judged(self, kind: str, rng: np.random.Generator) -> dict[str, Any]:
        """One batch of a kind beside a reference of other patients: verdict, cause, estimates and truth."""
        taken: set[int] = set()
        share = 0.6 if kind == MIX else SHARE
        wanted = [(False, round(BATCH * (1 - share))), (True, round(BATCH * share))]
        rows = self._batch_rows(kind, wanted, taken, rng)
        healthy = self._of_class(False, round(REFERENCE * (1 - SHARE)), taken, rng)
        num_sick, is_viral = round(len(healthy) * SHARE / (1 - SHARE)), False if kind == VIRAL else None
        others_N = np.r_[healthy, self._of_class(True, num_sick, taken, rng, is_viral)]
        others_N.sort()
        reference = self.clean.take(others_N)
        judged = self._judged_holdout(others_N)
        batch = self._batch(kind, rows, rng)
        model = Model(self.loaded.findings, False, self.loaded.priors, {None: judged})
        config = MonitorConfig()
        result = judgement.judge(reference, batch, "holdout", model, self.rule, config, int(rng.integers(2**31)))
        truth_N = None if kind in (ADULTS, HIDDEN, CT) else self.is_positive_N[rows]
        return _row(result, batch, truth_N)

    def _batch_rows(
        self, kind: str, wanted: list[tuple[bool, int]], taken: set[int], rng: np.random.Generator
    ) -> np.ndarray:
        """Rows of the clean table that become the batch."""
        if kind in self.changed:
            of = self.changeable
            chosen = [rng.permutation(of[self.is_positive_N[of] == flag])[:num] for flag, num in wanted]
        else:
            is_viral = True if kind == VIRAL else None
            chosen = [self._of_class(flag, num, taken, rng, is_viral) for flag, num in wanted]
        rows = np.sort(np.concatenate(chosen))
        taken |= {int(group) for group in self.clean.group_N[rows]}
        return rows

    def _batch(self, kind: str, rows: np.ndarray, rng: np.random.Generator) -> Sample:
        if kind in (ADULTS, HIDDEN):
            batch = self.adults.take(np.sort(rng.permutation(len(self.adults))[:BATCH]))
            return batch if kind == ADULTS else _without_metadata(batch)
        if kind == CT:
            return self.slices
        if kind not in self.changed:
            return self.clean.take(rows)
        place = np.searchsorted(self.changeable, rows)
        table = self.changed[kind].take(pa.array(place))
        if kind == MASS:  # not in all of them: what is new is a finding, not another machine
            has_mass_N = rng.permutation(len(rows)) < round(SHARE * len(rows))
            both = pa.concat_tables([table, self.clean.table.take(pa.array(rows)).select(table.column_names)])
            table = both.take(pa.array(np.arange(len(rows)) + np.where(has_mass_N, 0, len(rows))))
        return sample.of_table(table, [str(group) for group in self.clean.group_N[rows]], self.centres)

    def _judged_holdout(self, rows: np.ndarray) -> Judged:
        """What the reference's labels say of the model."""
        answers = self.clean.table["answer"].take(pa.array(rows)).to_pylist()
        confusion_CC = np.zeros((2, 2))
        positive = self.loaded.findings.index(POSITIVE)
        place = [self.loaded.findings.index(answer) for answer in answers]
        truth = np.where(self.is_positive_N[rows], positive, 1 - positive)
        np.add.at(confusion_CC, (truth, place), 1)
        accuracy = float(np.trace(confusion_CC) / confusion_CC.sum())
        error = float(np.sqrt(accuracy * (1 - accuracy) / len(rows)))
        return Judged(accuracy, error, confusion_CC)


def _is_viral(folder: Path, ids: list[str]) -> np.ndarray:
    """Whether each scan is of a viral pneumonia, as the pool's own table says (N,)."""
    manifest = run_files.read(folder, MANIFEST)
    with (folder.parent / "kermany-own.csv").open(encoding="utf-8") as stream:
        kind_of = {Path(row["image_path"]).name: row["subtype"] for row in csv.DictReader(stream)}
    name_of = dict(zip(manifest["image_id"].to_pylist(), manifest["path"].to_pylist(), strict=True))
    return np.array([kind_of[Path(name_of[image_id]).name] == "viral" for image_id in ids])


def _without_metadata(batch: Sample) -> Sample:
    table = batch.table
    for name in sample.metadata():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.nulls(len(table), table.schema.field(place).type))
    return Sample(table, batch.group_N, batch.cluster_N)


def _row(result: Judgement, batch: Sample, truth_N: np.ndarray | None) -> dict[str, Any]:
    """What is kept of one batch."""
    row: dict[str, Any] = {
        "verdict": result.verdict,
        "cause": None if result.cause is None else result.cause.name,
        "streams": sorted({reading.stream for reading in result.comparison.moved}),
        "accuracy": asdict(result.accuracy["answer"]),
        "shares": {method: asdict(of[POSITIVE]) for method, of in result.shares["answer"].items()},
    }
    if truth_N is not None:
        said_N = np.array(batch.table["answer"].to_pylist()) == POSITIVE
        row |= {"true_accuracy": float((said_N == truth_N).mean()), "true_share": float(truth_N.mean())}
    return row


def _write(results: dict[str, list[dict[str, Any]]], num_seeds: int) -> None:
    rows = []
    for kind, batches in results.items():
        num = len(batches)
        right = sum(row["cause"] == kind.partition(",")[0] for row in batches)
        moved = sum(row["cause"] is not None for row in batches)
        verdicts = {name: sum(row["verdict"] == name for row in batches) for name in ("steady", "watch", "retrain")}
        strength = CHANGES[kind][0] if kind in CHANGES else STRENGTH[kind]
        rows.append(
            (
                kind,
                strength,
                num,
                _share(moved, num),
                "–" if kind == PLAIN else _share(right, num),
                " / ".join(str(count) for count in verdicts.values()),
                _of_estimates(batches, "accuracy"),
                _of_estimates(batches, "em"),
                _of_estimates(batches, "bbse"),
            )
        )
    header = (
        "planted",
        "how much",
        "batches",
        "moved",
        "right name",
        "steady / watch / retrain",
        "accuracy: error, covered",
        "EM: error, covered",
        "BBSE: error, covered",
    )
    notes = (
        f"Batches of {BATCH} scans against references of {REFERENCE} scans of other patients, both with {SHARE:.0%} "
        "pneumonia but for prevalence, which goes to 60 %; default options. Moved and right name: share of batches, "
        "with the 95 % interval of Clopper and Pearson. Estimates: mean absolute error of accuracy and of the share of "
        "pneumonia where they were not refused, and how many of their 95 % intervals hold the truth; – where all were "
        "refused or the truth is of other classes. Batches of one seed are drawn from the same patients again and "
        "again, so their intervals are somewhat too narrow. Changes are made to the square that the network sees "
        "(224 px). The adults are NIH scans; with no metadata only pixels can tell them apart. The right name of a new "
        "finding and of CT slices is `other scans`; viral pneumonia is new to the reference, not to the model, which "
        "has learned from both."
    )
    title = "Monitor: planted changes in batches of children's scans (kermany)"
    tables.write("monitor", title, f"python -m tests.bench monitor --seeds {num_seeds}", header, rows, notes)


STRENGTH = {
    PLAIN: "–",
    ADULTS: "NIH adults",
    HIDDEN: "NIH adults, pixels alone",
    MIX: "pneumonia 30 → 60 %",
    MASS: f"a round opacity in {SHARE:.0%} of the scans",
    VIRAL: "the reference knows bacterial pneumonia alone, the batch viral",
    CT: "rectangles of one capture of a CT",
}


def _share(count: int, num: int) -> str:
    from scipy.stats import beta

    low = 0.0 if count == 0 else float(beta.ppf(0.025, count, num - count + 1))
    high = 1.0 if count == num else float(beta.ppf(0.975, count + 1, num - count))
    return f"{count / num:.2f} ({low:.2f} to {high:.2f})"


def _of_estimates(batches: list[dict[str, Any]], what: str) -> str:
    """Mean absolute error and coverage of what was estimated, and how much was refused."""
    errors, held = [], 0
    for row in batches:
        estimate = row["accuracy"] if what == "accuracy" else row["shares"][what]
        truth = row.get("true_accuracy" if what == "accuracy" else "true_share")
        if estimate["value"] is not None and truth is not None:
            errors.append(abs(estimate["value"] - truth))
            held += estimate["low"] <= truth <= estimate["high"]
    refused = len(batches) - len(errors)
    if not errors:
        return "–"
    return f"{np.mean(errors):.3f}, {held} of {len(errors)}" + (f" ({refused} refused)" if refused else "")
