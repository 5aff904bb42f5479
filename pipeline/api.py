"""The commands from Python: tables as pandas with the scans' paths, errors as exceptions; works in a notebook.

The names in `__all__` are stable. Heavy libraries are imported inside the functions, so that the import is fast.

Legend: N scans, D dimensions of an embedding, C classes or findings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.contracts.errors import AuditBlocked, CxrSslError, InputError, WaitingForLabels

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from pipeline.predict.recipe import Recipe

__all__ = [
    "Audit",
    "AuditBlocked",
    "Classifier",
    "Comparison",
    "CxrSslError",
    "Embeddings",
    "InputError",
    "Run",
    "WaitingForLabels",
    "audit",
    "compare",
    "embed",
    "select",
]
Options = Mapping[str, Any]
PathLike = str | Path


@dataclass(frozen=True)
class Embeddings:
    """Vectors of a pool's scans; `numpy.asarray(embeddings)` are the vectors.

    Attributes:
        folder: Where they lie.
        scans: One row a vector, in their order: `image_id`, `path` (inside the pool), `uri` (where to read it).
        emb_ND: The vectors, float16, mapped from disk, (N, D).
    """

    folder: Path
    scans: "pd.DataFrame"
    emb_ND: NDArray[Any]

    def __len__(self) -> int:
        return len(self.emb_ND)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.emb_ND, dtype=dtype) if copy else np.asarray(self.emb_ND, dtype=dtype)


@dataclass(frozen=True)
class Audit:
    """The audit of a pool or a run.

    Attributes:
        verdict: `valid`, `caution` or `invalid`.
        blocking: Ids of the checks that block.
        checks: One row a check: `id`, `severity`, `checked`, `count`, `value`, `message`.
        content: All of `audit.json`.
        page: The page with the evidence.
    """

    verdict: str
    blocking: tuple[str, ...]
    checks: "pd.DataFrame"
    content: dict[str, Any]
    page: Path

    def raise_if_blocked(self) -> None:
        """Stop a script that must not go on with such a pool.

        Raises:
            AuditBlocked: a check blocks.
        """
        from pipeline.audit.stage import blocked_message

        if self.blocking:
            raise AuditBlocked(blocked_message(self.content), where=self.page)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: One row a run, with its scores.
        differences: One row a metric of a pair of runs: `a`, `b`, `finding`, `metric`, `score_a`, `score_b`,
            `difference` (b less a), `low` and `high` (95 % interval), `p_value`, `p_holm`.
        content: All that `cxr-ssl compare --json` says.
        page: The page.
    """

    runs: "pd.DataFrame"
    differences: "pd.DataFrame"
    content: dict[str, Any]
    page: Path


def embed(
    pool: PathLike, out: PathLike, *, options: Options | None = None, resume: bool = False, quiet: bool = True
) -> Embeddings:
    """Embed a pool, as `cxr-ssl embed`.

    Args:
        pool: Any pool: folder, table, archive, `phantom:`, ….
        out: Folder for the vectors; new, or of an earlier call with `resume`.
        options: Dotted options, such as `{"backbone.name": "resnet50"}`.
        resume: Go on in `out`; only new scans are embedded.
        quiet: Show no progress.

    Raises:
        InputError: the pool cannot be read, an option is wrong, or `out` holds something else.
    """
    from pipeline.commands import request, run

    wanted = request.Request(
        overrides={"pool.uri": str(pool), **(options or {})},
        out=Path(out),
        resume=resume,
        quiet=quiet,
        stages=("manifest", "embed"),
    )
    run.execute(wanted)
    return _embeddings(Path(out))


def select(
    embeddings: ArrayLike | Embeddings,
    n: int,
    *,
    labelled: ArrayLike | None = None,
    probabilities: ArrayLike | None = None,
    groups: Sequence[object] | None = None,
    strategy: str | None = None,
    options: Options | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Choose the scans that are worth an expert's minute.

    Args:
        embeddings: Vectors, (N, D); a row with a value that is not finite is never chosen.
        n: How many; fewer come back where fewer are open.
        labelled: Scans that have labels, as a mask (N,) or as rows.
        probabilities: Of a classifier, (N, C), rows that sum to 1; some strategies look at them.
        groups: Patient of each scan, (N,): a patient comes once, as long as there are others.
        strategy: Name of a strategy; None: the default of `strategy.name`.
        options: Dotted options of the strategy, such as `{"strategy.bandwidth": 0.3}`.
        seed: Of the draws.

    Returns:
        Rows of `embeddings`, best first, (n,).

    Raises:
        InputError: an array has the wrong shape, or no strategy has that name.
    """
    from pipeline.contracts import config_file
    from pipeline.selection import array_pool

    config = config_file.load(None, {**({"strategy.name": strategy} if strategy else {}), **(options or {})}).strategy
    arrays = array_pool.Arrays(embeddings, labelled, probabilities, groups)
    return array_pool.select(arrays, n, config, np.random.default_rng(seed))


def audit(
    pool: PathLike,
    out: PathLike | None = None,
    *,
    options: Options | None = None,
    strict: bool = False,
    accept: Mapping[str, str] | None = None,
    quiet: bool = True,
) -> Audit:
    """Audit a pool, a split or a run, as `cxr-ssl audit`. A verdict never raises; see `Audit.raise_if_blocked`.

    Args:
        pool: Any pool, or the folder of a run.
        out: Folder for `audit.json` and its page; None: `runs/audit-1`, -2, …. A run is audited in its own folder.
        options: Dotted options.
        strict: Warnings block too.
        accept: Check to why it is overridden; the words are printed in every report.
        quiet: Show no progress.

    Raises:
        InputError: the pool cannot be read, or the folder holds something else.
    """
    from pipeline.audit import overrides
    from pipeline.commands import audit as commands_audit
    from pipeline.commands import request

    accepted = [one for check, why in (accept or {}).items() for one in overrides.parse([check], why)]
    wanted = request.Request(
        overrides={"pool.uri": str(pool), **({"audit.strict": True} if strict else {}), **(options or {})},
        out=None if out is None else Path(out),
        quiet=quiet,
        accept=tuple(accepted),
    )
    result = commands_audit.audit_pool(wanted)
    return _audit(result, Path(result["report"]))


def compare(*runs: "PathLike | Run", out: PathLike | None = None) -> Comparison:
    """Compare runs with the first of them, as `cxr-ssl compare`; every call is noted as a read of the holdouts.

    Args:
        runs: Two runs or more; or one folder that holds runs, whose holdouts are not read.
        out: Page to write, `.html`; None: `runs/comparison-1.html`, -2, ….

    Raises:
        InputError: there is nothing to compare, or a run is named twice.
    """
    import pandas as pd

    from pipeline.commands.comparison import compare_runs

    folders = [run.folder if isinstance(run, Run) else Path(run) for run in runs]
    content = compare_runs.compare(folders, None if out is None else Path(out))
    columns = ("a", "b", "finding", "metric", "score_a", "score_b", "difference", "low", "high", "p_value", "p_holm")
    rows = [
        (
            *(pair[name] for name in ("a", "b", "finding")),
            *(row[name] for name in ("metric", "a", "b", "difference")),
            *(row["ci95"] or (None, None)),
            *(row[name] for name in ("p_value", "p_holm")),
        )
        for pair in content["pairs"]
        for row in pair["metrics"]
    ]
    runs_table = pd.json_normalize([{k: v for k, v in run.items() if k != "curve"} for run in content["runs"]])
    return Comparison(runs_table, pd.DataFrame(rows, columns=list(columns)), content, Path(content["page"]))


class Run:
    """A run that is there already; its tables are read when they are asked for.

    Args:
        path: The folder that `--out` named.

    Raises:
        InputError: there is no run.
    """

    def __init__(self, path: PathLike) -> None:
        from pipeline.runtime import run_dir

        self.folder = Path(path)
        self._config = run_dir.config_of(self.folder)

    def __repr__(self) -> str:
        status = self.status
        return f"Run({str(self.folder)!r}, state={status.get('state')!r}, round={status.get('round')!r})"

    @property
    def config(self) -> dict[str, Any]:
        """All options, with defaults filled in."""
        return dict(self._config.model_dump(mode="json"))

    @property
    def status(self) -> dict[str, Any]:
        """What `status.json` says: `state`, `stage`, `round`, `message`, `updated`."""
        from pipeline.runtime import run_dir

        return run_dir.read_status(self.folder)

    @property
    def scans(self) -> "pd.DataFrame":
        """One row a scan of the pool; the columns of `manifest.parquet`."""
        from pipeline.contracts.tables import MANIFEST
        from pipeline.runtime import run_files

        return _frame(run_files.read(self.folder, MANIFEST))

    @property
    def labels(self) -> "pd.DataFrame":
        """Labels of experts and pseudo-labels; the columns of `labels.parquet`, `path` and `uri`."""
        from pipeline.labels import label_table

        return self._with_paths(label_table.read(self.folder))

    @property
    def predictions(self) -> "pd.DataFrame":
        """What the last round's model says of every scan; the columns of `predictions.parquet`, `path` and `uri`.

        Of independent findings `finding` comes first, and a scan has a row for each finding that has a classifier.

        Raises:
            InputError: no round has a classifier yet.
        """
        import pandas as pd

        from pipeline.contracts.tables import PREDICTIONS
        from pipeline.runtime.finding_folders import parts_in

        parts: list[tuple[str | None, Path]] = [*parts_in(self.folder).items()] or [(None, self.folder)]
        frames = []
        for finding, folder in parts:
            if (folder / PREDICTIONS.file).exists():
                frame = self._with_paths(PREDICTIONS.read(folder))
                if finding is not None:
                    frame.insert(0, "finding", finding)
                frames.append(frame)
        if not frames:
            raise InputError("no round has a classifier yet", where=self.folder, fix="go on with it first")
        return pd.concat(frames, ignore_index=True)

    @property
    def metrics(self) -> "pd.DataFrame":
        """One row a finished round; what is nested in `metrics.jsonl` has dotted names, such as `holdout.auroc`."""
        import pandas as pd

        from pipeline.runtime import run_dir

        return pd.json_normalize(run_dir.read_metrics(self.folder), max_level=1)

    @property
    def embeddings(self) -> Embeddings:
        """Vectors of the scans.

        Raises:
            InputError: the scans are not embedded yet.
        """
        return _embeddings(self.folder)

    @property
    def audit(self) -> Audit | None:
        """The run's audit; None before there is one."""
        from pipeline.audit import stage
        from pipeline.runtime import run_files

        content = stage.read(self.folder)
        return None if content is None else _audit(content, self.folder / run_files.AUDIT_PAGE)

    def monitor(self, pool: PathLike, out: PathLike, *, options: Options | None = None) -> dict[str, Any]:
        """Whether a batch is still like the run's own scans, as `cxr-ssl monitor`; a verdict never raises.

        Args:
            pool: The batch.
            out: Folder of the batches so far, or a new one.
            options: Dotted options of `pool`, `monitor`, `predict` and `engine`.

        Raises:
            InputError: the pool cannot be read, the run has no classifier, or `out` holds something else.
        """
        from pipeline.commands import predict

        return predict.monitor(self.folder, str(pool), Path(out), dict(options or {}), quiet=True)

    def report(self) -> Path:
        """Write the report again and return its page."""
        from pipeline.commands import run

        return Path(run.rebuild_report(self.folder)["report"])

    def _with_paths(self, table: "pa.Table") -> "pd.DataFrame":
        places = self.scans[["image_id", "path", "uri"]]
        return _frame(table).merge(places, on="image_id", how="left", validate="many_to_one")


class Classifier:
    """A run's latest classifier in scikit-learn's form; `Classifier.load` makes one.

    Attributes:
        classes_: Names of the C columns of `predict_proba`.
    """

    def __init__(self, recipe: "Recipe") -> None:
        from pipeline.predict import predictor

        self._recipe = recipe
        self.classes_: NDArray[np.str_] = np.array(predictor.load(recipe).findings)

    @classmethod
    def load(cls, run: "PathLike | Run", *, options: Options | None = None) -> "Classifier":
        """The classifier of a run's last finished round.

        Args:
            run: The run.
            options: Dotted options of `pool`, `predict` and `engine`.

        Raises:
            InputError: the run has no classifier yet, or another version made it.
        """
        from pipeline.predict import other_scans, recipe
        from pipeline.runtime import run_dir

        folder = run.folder if isinstance(run, Run) else Path(run)
        run_dir.config_of(folder)  # it is a run
        return cls(recipe.of_run(folder, other_scans.config_for(folder, "files", dict(options or {}))))

    def predict_proba(
        self, paths: Sequence[PathLike], *, unusable: Literal["raise", "nan"] = "raise", quiet: bool = True
    ) -> NDArray[np.float64]:
        """Calibrated probabilities, in the order of `classes_`; of independent findings each column by itself, (N, C).

        Args:
            paths: N files.
            unusable: What a file does that cannot be used: `raise` an error, or give a row of `nan`.
            quiet: Show no progress.

        Raises:
            InputError: a file cannot be used, and `unusable` is `raise`.
        """
        table = self._table(paths, quiet)
        if unusable == "raise":
            _refuse_unusable(table)
        columns = [table[f"prob_{finding}"].to_numpy(zero_copy_only=False) for finding in self.classes_.tolist()]
        return np.stack(columns, axis=1).astype(np.float64)

    def predict(self, paths: Sequence[PathLike], *, quiet: bool = True) -> NDArray[np.str_]:
        """The class of each file at the run's operating point; of independent findings their line, (N,).

        Raises:
            InputError: a file cannot be used.
        """
        table = self._table(paths, quiet)
        _refuse_unusable(table)
        return np.array(table["answer"].to_pylist(), dtype=np.str_)

    def table(self, paths: Sequence[PathLike], *, quiet: bool = True) -> "pd.DataFrame":
        """All that `cxr-ssl predict` says, one row a file; one that cannot be used has the reason."""
        return _frame(self._table(paths, quiet))

    def _table(self, paths: Sequence[PathLike], quiet: bool) -> "pa.Table":
        from pipeline.predict import predict_files
        from pipeline.runtime.progress import Progress

        if isinstance(paths, str | Path):
            raise InputError("is one path, no list of paths", value=str(paths), where="paths", fix="put it in a list")
        with Progress(quiet=quiet) as progress:
            return predict_files.predict_files(self._recipe, [str(path) for path in paths], progress)


def _frame(table: "pa.Table") -> "pd.DataFrame":
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _embeddings(folder: Path) -> Embeddings:
    from pipeline.contracts.tables import MANIFEST
    from pipeline.runtime import run_files
    from pipeline.vectors.matrix import Vectors

    if not run_files.path(folder, run_files.EMBEDDINGS).exists():
        raise InputError("the scans are not embedded yet", where=folder, fix="go on with it first")
    vectors = Vectors.open(folder)
    scans = _frame(run_files.read(folder, MANIFEST))[["image_id", "path", "uri"]]
    ordered = scans.set_index("image_id").loc[vectors.ids.to_pylist()].reset_index()
    return Embeddings(folder, ordered, vectors.emb_ND)


def _audit(content: dict[str, Any], page: Path) -> Audit:
    import pandas as pd

    columns = ["id", "severity", "checked", "count", "value", "message"]
    checks = pd.DataFrame([{name: check.get(name) for name in columns} for check in content["checks"]], columns=columns)
    return Audit(content["verdict"], tuple(content.get("blocking") or ()), checks, content, page)


def _refuse_unusable(table: "pa.Table") -> None:
    rows = [row for row in table.select(["path", "status", "reason"]).to_pylist() if row["status"] == "unusable"]
    if rows:
        raise InputError(
            f"{len(rows)} of {len(table)} files cannot be used; the first: {rows[0]['reason']}",
            value=rows[0]["path"],
            where="paths",
            fix='leave them out, ask for unusable="nan", or see Classifier.table for each reason',
        )
