"""A run that is there already."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.api.results import Audit, Embeddings, Options, PathLike, audit_from, embeddings_in, frame_of
from pipeline.contracts.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Run:
    """A run that is there already; its tables are read when they are asked for.

    Args:
        path: The folder or the URL that `--out` named.

    Raises:
        InputError: there is no run.
    """

    def __init__(self, path: PathLike) -> None:
        from pipeline.runtime import run_dir
        from pipeline.runtime.object_storage import session

        self.folder = session.folder_of(path)
        self._config = run_dir.config_of(self.folder)

    def __repr__(self) -> str:
        from pipeline.runtime import run_dir

        num_finished = len(run_dir.read_metrics(self.folder))
        return f"Run({str(self.folder)!r}, state={self.status.get('state')!r}, rounds_finished={num_finished})"

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

        return frame_of(run_files.read(self.folder, MANIFEST))

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
        return embeddings_in(self.folder)

    @property
    def audit(self) -> Audit | None:
        """The run's audit; None before there is one."""
        from pipeline.audit import stage
        from pipeline.runtime import run_files

        content = stage.read(self.folder)
        return None if content is None else audit_from(content, self.folder / run_files.AUDIT_PAGE)

    @property
    def queue(self) -> "pd.DataFrame":
        """What the last round asks people: the columns of `queue.csv`, where `label` may be filled.

        Nothing in it says whose a scan is, what the model thinks of it or why it was chosen.

        Raises:
            InputError: nothing was asked yet.
        """
        import pandas as pd

        from pipeline.runtime import run_files

        asked = run_files.latest_round(self.folder)
        if asked is None:
            raise InputError("has asked for no labels yet", where=self.folder, fix="go on with it first")
        return pd.read_csv(run_files.round_folder(self.folder, asked) / run_files.QUEUE_TABLE, dtype=str)

    def import_labels(self, *files: PathLike, annotator: str | None = None) -> dict[str, Any]:
        """Bring answers back, as `cxr-ssl labels import`; then go on with `run(None, folder, resume=True)`.

        Args:
            files: Filled queues, or exports of labelling programs.
            annotator: Who gave these labels, where the files do not say.

        Returns:
            Counts of what came: `num_new`, `num_known`, `num_blank`, ….

        Raises:
            InputError: with every row that cannot be used; then nothing is added.
        """
        from pipeline.annotate.import_files import Who
        from pipeline.commands import labels

        return labels.import_labels(self.folder, [Path(path) for path in files], Who(annotator=annotator))

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
        return frame_of(table).merge(places, on="image_id", how="left", validate="many_to_one")
