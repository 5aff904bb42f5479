"""What the functions answer, and how tables become pandas.

Legend: N scans, D dimensions of an embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.contracts.errors import AuditBlocked, InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

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


def frame_of(table: "pa.Table") -> "pd.DataFrame":
    """A table as pandas."""
    frame: pd.DataFrame = table.to_pandas()
    return frame


def embeddings_in(folder: Path) -> Embeddings:
    """The vectors that lie in a folder.

    Raises:
        InputError: the scans are not embedded yet.
    """
    from pipeline.contracts.tables import MANIFEST
    from pipeline.runtime import run_files
    from pipeline.vectors.matrix import Vectors

    if not run_files.path(folder, run_files.EMBEDDINGS).exists():
        raise InputError("the scans are not embedded yet", where=folder, fix="go on with it first")
    vectors = Vectors.open(folder)
    scans = frame_of(run_files.read(folder, MANIFEST))[["image_id", "path", "uri"]]
    ordered = scans.set_index("image_id").loc[vectors.ids.to_pylist()].reset_index()
    return Embeddings(folder, ordered, vectors.emb_ND)


def audit_from(content: dict[str, Any], page: Path) -> Audit:
    """The content of `audit.json` with its checks as a table."""
    import pandas as pd

    columns = ["id", "severity", "checked", "count", "value", "message"]
    checks = pd.DataFrame([{name: check.get(name) for name in columns} for check in content["checks"]], columns=columns)
    return Audit(content["verdict"], tuple(content.get("blocking") or ()), checks, content, page)
