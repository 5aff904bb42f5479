"""A run's classifier in scikit-learn's form.

Legend: N files, C classes or findings.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.api.results import Options, PathLike, frame_of
from pipeline.api.runs import Run
from pipeline.contracts.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from pipeline.predict.recipe import Recipe


class Classifier:
    """A run's latest classifier in scikit-learn's form; `Classifier.load` makes one.

    Attributes:
        classes_: Names of the C columns of `predict_proba`.
    """

    def __init__(self, recipe: "Recipe") -> None:
        from pipeline.predict import predictor

        self._recipe = recipe
        self.classes_: NDArray[np.str_] = np.array(predictor.load(recipe).findings)

    def __repr__(self) -> str:
        recipe = self._recipe
        round_index = max(question.round_index or 0 for question in recipe.questions)
        return f"Classifier(run={str(recipe.run)!r}, round={round_index}, classes={self.classes_.tolist()})"

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
        from pipeline.runtime.object_storage import session

        folder = run.folder if isinstance(run, Run) else session.folder_of(run)
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
        return frame_of(self._table(paths, quiet))

    def _table(self, paths: Sequence[PathLike], quiet: bool) -> "pa.Table":
        from pipeline.predict import predict_files
        from pipeline.runtime.progress import Progress

        if isinstance(paths, str | Path):
            raise InputError("is one path, no list of paths", value=str(paths), where="paths", fix="put it in a list")
        with Progress(quiet=quiet) as progress:
            return predict_files.predict_files(self._recipe, [str(path) for path in paths], progress)


def _refuse_unusable(table: "pa.Table") -> None:
    rows = [row for row in table.select(["path", "status", "reason"]).to_pylist() if row["status"] == "unusable"]
    if rows:
        raise InputError(
            f"{len(rows)} of {len(table)} files cannot be used; the first: {rows[0]['reason']}",
            value=rows[0]["path"],
            where="paths",
            fix='leave them out, ask for unusable="nan", or see Classifier.table for each reason',
        )
