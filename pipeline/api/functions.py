"""Functions that do what a command does.

Legend: N scans, C classes or findings.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.api.results import Audit, Comparison, Embeddings, Options, PathLike, audit_from, embeddings_in
from pipeline.api.runs import Run
from pipeline.audit import overrides
from pipeline.audit.check import Override


def run(
    pool: PathLike | None,
    out: PathLike,
    *,
    rounds: int | None = None,
    budget: int | None = None,
    oracle: bool = False,
    options: Options | None = None,
    resume: bool = False,
    grow: Sequence[PathLike] = (),
    accept: Mapping[str, str] | None = None,
    quiet: bool = True,
) -> Run:
    """Run the whole loop, or go on with it, as `cxr-ssl run`.

    Args:
        pool: Any pool; None with `resume`: the run's own.
        out: Folder of the run.
        rounds: Number of rounds.
        budget: Expert labels a round.
        oracle: Hide the training labels and let them answer the queue.
        options: Dotted options.
        resume: Go on in `out`.
        grow: Pools that join the run in `out`; with `resume`.
        accept: Check of the audit to why it is overridden; the words are printed in every report.
        quiet: Show no progress.

    Raises:
        WaitingForLabels: people have to answer first; see `Run.queue` and `Run.import_labels`.
        AuditBlocked: a check of the audit blocks.
        InputError: the pool cannot be read, an option is wrong, or `out` holds something else.
    """
    from pipeline.commands import request
    from pipeline.commands import run as commands_run
    from pipeline.runtime.object_storage import session

    short = {"pool.uri": None if pool is None else str(pool), "rounds.num": rounds, "queue.budget": budget}
    asked = {name: value for name, value in short.items() if value is not None}
    wanted = request.Request(
        overrides={**asked, **({"oracle": True} if oracle else {}), **(options or {})},
        out=session.folder_of(out),
        resume=resume,
        quiet=quiet,
        accept=_accepted(accept),
        grow=tuple(str(address) for address in grow),
    )
    commands_run.execute(wanted)
    return Run(out)


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
    from pipeline.runtime.object_storage import session

    wanted = request.Request(
        overrides={"pool.uri": str(pool), **(options or {})},
        out=session.folder_of(out),
        resume=resume,
        quiet=quiet,
        stages=("manifest", "embed"),
    )
    run.execute(wanted)
    return embeddings_in(session.folder_of(out))


def select(
    embeddings: ArrayLike | Embeddings,
    n: int,
    *,
    labelled: ArrayLike | None = None,
    probabilities: ArrayLike | None = None,
    groups: Sequence[object] | None = None,
    classes: ArrayLike | None = None,
    strategy: str | None = None,
    options: Options | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Choose the scans that are worth an expert's minute.

    Args:
        embeddings: Vectors, (N, D); a row with a value that is not finite is never chosen.
        n: How many; fewer come back where fewer are open.
        labelled: Scans that have labels, as a mask (N,) or as rows; None: those with a class.
        probabilities: Of a classifier, (N, C), rows that sum to 1; some strategies look at them.
        groups: Patient of each scan, (N,): a patient comes once, as long as there are others.
        classes: Class that experts gave each scan, an integer from 0 on, -1 where none, (N,). The default strategy
            looks for classes that are rare among them.
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
    arrays = array_pool.Arrays(embeddings, labelled, probabilities, groups, classes)
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
    from pipeline.commands import audit as commands_audit
    from pipeline.commands import request
    from pipeline.runtime.object_storage import session

    wanted = request.Request(
        overrides={"pool.uri": str(pool), **({"audit.strict": True} if strict else {}), **(options or {})},
        out=None if out is None else session.folder_of(out),
        quiet=quiet,
        accept=_accepted(accept),
    )
    result = commands_audit.audit_pool(wanted)
    return audit_from(result, Path(result["report"]))


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
    from pipeline.runtime.object_storage import session

    folders = [run.folder if isinstance(run, Run) else session.folder_of(run) for run in runs]
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


def _accepted(accept: Mapping[str, str] | None) -> tuple[Override, ...]:
    return tuple(override for check, why in (accept or {}).items() for override in overrides.parse([check], why))
