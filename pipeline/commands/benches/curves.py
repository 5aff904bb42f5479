"""What the benches over budgets share: pools read once, histories as tasks, a result as JSON, Markdown and a page."""

import datetime as dt
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from pipeline import stages
from pipeline.baselines.curves import bench_pool, kept, report
from pipeline.baselines.curves.asking import History
from pipeline.baselines.curves.figures import Curve
from pipeline.baselines.curves.report import Report
from pipeline.contracts import config_file
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text
from pipeline.runtime import run_dir
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import Engine
from pipeline.runtime.progress import Progress
from pipeline.runtime.workplace import workplace
from pipeline.stages import READ

BUDGETS = (10, 20, 35, 50, 100, 200, 500)
H = TypeVar("H", bound=History)


@dataclass(frozen=True, kw_only=True)
class CurvesRequest:
    """What a user asked for.

    Attributes:
        pools: Pools, or NAME=POOL.
        out: Folder for the result, the pools' tables and the histories; it goes on with what is there.
        budgets: Numbers of labels after which something learns, rising.
        rare: Every pool comes also with its rarest finding cut down to this share; None: not.
        num_seeds: Histories of each kind on each pool.
        overrides: Dotted options.
        quiet: No progress.
    """

    pools: tuple[str, ...]
    out: Path | None
    budgets: tuple[int, ...] = BUDGETS
    rare: float | None = None
    num_seeds: int = 5
    overrides: dict[str, Any] = field(default_factory=dict)
    quiet: bool = False


class Draw(NamedTuple):
    """A pool, a seed and the budgets: the fields that histories to be paired share, see `asking.History`."""

    pool: Path
    name: str
    rare: float | None
    seed: int
    budgets: tuple[int, ...]
    config: Config


@dataclass(frozen=True)
class Bench(Generic[H]):
    """What one bench measures.

    Attributes:
        name: Of the bench and of its files.
        tasks: Histories of a draw, those of one task together.
        simulate: Curves of a task's histories.
        figures: From all curves to the rows of the result.
        report: From the result to what a person reads.
        options: Those that decide a curve.
    """

    name: str
    tasks: Callable[[Draw], list[list[H]]]
    simulate: Callable[[Sequence[H]], list[Curve]]
    figures: Callable[[Sequence[Curve]], list[dict[str, Any]]]
    report: Callable[[dict[str, Any]], Report]
    options: Callable[[Config], dict[str, Any]]


def read_budgets(text: str) -> tuple[int, ...]:
    """Budgets from `10,20,50`.

    Raises:
        InputError: they are not whole numbers of at least 2 that rise.
    """
    parts = [part.strip() for part in text.split(",")]
    budgets = tuple(int(part) for part in parts if part.isdecimal())
    if len(budgets) < len(parts) or list(budgets) != sorted(set(budgets)) or budgets[0] < 2:
        raise InputError("budgets are whole numbers from 2 on that rise", value=text, where="--budgets", fix="10,20,50")
    return budgets


def measure(request: CurvesRequest, bench: Bench[H]) -> dict[str, Any]:
    """Run a bench; returns its result, and writes `NAME.json`, `.md` and `.html` into the folder.

    Raises:
        InputError: no pool, a pool that is too small for the budgets, or a wrong option.
    """
    out = _checked(request)
    config = config_file.load(None, request.overrides)
    with workplace(config, out) as place, run_dir.locked(out), Progress(quiet=request.quiet) as progress:
        run_dir.write_config(out, config)  # marks the folder as ours, so that the bench goes on in it
        place.record()
        ctx = StageContext(config, out, place.engine, progress)
        pools = [_pool(text, request, out, place.engine, progress) for text in request.pools]
        tasks = [task for draw in _draws(request, pools) for task in bench.tasks(draw)]
        rows = bench.figures(kept.run(ctx, tasks, bench.simulate))
        result = {
            "bench": bench.name,
            "rows": rows,
            "budgets": list(request.budgets),
            "num_seeds": request.num_seeds,
            "options": bench.options(config),
            "environment": run_dir.environment(),
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "out": str(out),
        }
        sentences = bench.report(result)
        write_text(out / f"{bench.name}.json", json.dumps(result, indent=1))
        write_text(out / f"{bench.name}.md", report.markdown(sentences, result))
        write_text(out / f"{bench.name}.html", report.page(sentences, result))
    return result


def _draws(request: CurvesRequest, pools: Sequence[tuple[str, Path, Config]]) -> list[Draw]:
    """Seed by seed, so that what is done at any time is as much of everything."""
    return [
        Draw(path, name, rare, seed, request.budgets, config)
        for seed in range(request.num_seeds)
        for name, path, config in pools
        for rare in ((None,) if request.rare is None else (None, request.rare))
    ]


def _checked(request: CurvesRequest) -> Path:
    if not request.pools:
        raise InputError("at least one pool is needed", where="--pool", fix="give --pool kermany/manifest.csv")
    if request.out is None:
        raise InputError("a folder for the result is needed", where="--out", fix="give --out FOLDER")
    if request.num_seeds < 1:
        raise InputError("at least one seed is needed", value=request.num_seeds, where="--seeds")
    if request.rare is not None and not 0.0 < request.rare < 1.0:
        raise InputError("a share is between 0 and 1", value=request.rare, where="--rare", fix="give --rare 0.02")
    out = request.out.absolute()
    run_dir.refuse_foreign(out)
    return out


def _pool(text: str, request: CurvesRequest, out: Path, engine: Engine, progress: Progress) -> tuple[str, Path, Config]:
    """Name, file and configuration of a pool; its scans are read and embedded, unless that was done before."""
    name, uri = _named(text)
    config = config_file.load(None, request.overrides | {"pool.uri": uri})
    folder = out / "pools" / name
    folder.mkdir(parents=True, exist_ok=True)
    run_dir.write_config(folder, config)
    ctx = StageContext(config, folder, engine, progress)
    stages.run_stages(ctx, READ)
    path = folder.with_suffix(".safetensors")
    bench_pool.write(ctx, path)
    num, most = len(bench_pool.load(path).class_T), request.budgets[-1]
    if num < most:
        raise InputError(
            f"the training pool of {name} has {num} labelled scans",
            value=most,
            where="--budgets",
            fix="leave out the budgets it cannot fill",
        )
    return name, path, _without_pool(config)


def _without_pool(config: Config) -> Config:
    """The options that decide a history; where the pool lies is no part of them."""
    return config.model_copy(update={"pool": Config().pool})


def _named(text: str) -> tuple[str, str]:
    """Name and URI of `NAME=POOL`, or of a pool named after its folder or file."""
    match = re.fullmatch(r"([A-Za-z0-9_-]+)=(.+)", text)
    if match:
        return match[1], match[2]
    path = Path(text)
    own = path.parent.name if path.stem == "manifest" else path.stem or text
    return re.sub(r"[^A-Za-z0-9_-]+", "-", own).strip("-") or "pool", text
