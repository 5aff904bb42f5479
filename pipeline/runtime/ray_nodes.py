"""What every node of a cluster must have before work is given to it: this package, and the folders of the run."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import EngineError

SECONDS = 60.0  # until every node has answered; a worker that starts on a busy node takes ten


@dataclass(frozen=True)
class Places:
    """Paths of this machine that tasks on other machines use.

    Attributes:
        folders: Tasks write there: the run, the store, the cache. They are there, and this process may write.
        pool: Tasks read it; None where it is not a path.
    """

    folders: tuple[Path, ...] = ()
    pool: Path | None = None


def check(ray: Any, places: Places) -> None:
    """Ask every other node for the package and the places.

    Raises:
        EngineError: naming the node and what it lacks.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if others:
        with _marked(places) as paths:
            refuse_lack({node["NodeManagerAddress"]: lack for node, lack in _ask(ray, others, paths)})


def refuse_lack(lack_of: dict[str, str]) -> None:
    """Raise for the first node that lacks something.

    Args:
        lack_of: What each node's address lacks: "" for nothing, `package: …` or a path.
    """
    lacking = {address: lack for address, lack in lack_of.items() if lack}
    if not lacking:
        return
    address, lack = next(iter(lacking.items()))
    where = f"node {address}" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else "")
    if lack.startswith("package: "):
        what = f"cannot import the package ({lack.removeprefix('package: ')})"
        fix = "install cxr-ssl on every node, or submit with `cxr-ssl submit … --go`, which sends its code"
        raise EngineError(what, where=where, fix=fix)
    fix = (
        "put it on storage that all nodes share: --out, --pool, embed.store, and CXR_SSL_CACHE for the cache; --out, "
        "--pool and embed.store at URLs need no shared disk, unless a network is trained or a pool is generated; "
        "engine.backend=serial does all on this machine"
    )
    raise EngineError("cannot see a path that only this machine has", value=lack, where=where, fix=fix)


@contextmanager
def _marked(places: Places) -> Iterator[list[str]]:
    """Paths that a node must see: in each folder a file of the moment, since another disk may have such a folder."""
    with ExitStack() as stack:
        marks = []
        for folder in places.folders:
            folder.mkdir(parents=True, exist_ok=True)
            mark = folder / f".seen-{uuid.uuid4().hex[:8]}"
            mark.touch()
            stack.callback(mark.unlink, missing_ok=True)
            marks.append(str(mark))
        yield marks + ([str(places.pool)] if places.pool is not None else [])


def _ask(ray: Any, nodes: Sequence[dict[str, Any]], paths: list[str]) -> Iterator[tuple[dict[str, Any], str]]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def look(names: list[str]) -> str:  # nested, so it is sent as code: the node may lack the package it is from
        from pathlib import Path

        try:
            import pipeline.contracts.tables  # noqa: F401 - with what it stands on
        except ImportError as error:
            return f"package: {error}"
        return next((name.partition("/.seen-")[0] for name in names if not Path(name).exists()), "")

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = []
    for node in nodes:
        only_there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append(task.options(scheduling_strategy=only_there).remote(paths))
    for node, answer in zip(nodes, asked, strict=True):
        try:
            yield node, ray.get(answer, timeout=SECONDS)
        except ray.exceptions.GetTimeoutError as error:
            where = f"node {node['NodeManagerAddress']}"
            fix = "look at its log, or take it out of the cluster"
            raise EngineError(f"runs no task within {SECONDS:g} s", where=where, fix=fix) from error
