"""The command line in a process that dies at a moment, as by `kill -9`; a clock would miss the moment, this cannot.

A moment is `NUM:END-OF-A-PATH`: as the file is about to appear at such a path for the NUM-th time, all written and not
yet renamed; or `NUM:shards`: as Ray gives back the NUM-th shard of embeddings while its workers are at others.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.forked import SERVER

SHARDS = "shards"


def run_until_killed(moment: str, argv: Sequence[object], environment: Mapping[str, str], log: Path) -> None:
    """Run the command line in a process of its own until it dies at `moment`; what it says goes to `log`."""
    words = [str(word) for word in argv]
    process = SERVER.Process(target=_run, args=(moment, words, dict(environment), str(log)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"{moment}: {process.exitcode} {log.read_text('utf-8')[-3000:]}"


def _die_at_rename(ending: str, num: int) -> None:
    """Be killed before the `num`-th rename to a path that ends so."""
    left = [num]

    def look(event: str, args: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(args[1]).endswith(ending):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def _die_at_shard(num: int) -> None:
    """Be killed when Ray gives back the `num`-th shard of embeddings."""
    from embeddings import extract
    from pipeline.runtime.ray_engine import RayEngine

    map_shards = RayEngine.map_shards

    def dying(engine: RayEngine, function: Callable[[Any], Any], shards: Sequence[Any], **more: bool) -> Iterator[Any]:
        for number, result in enumerate(map_shards(engine, function, shards, **more), start=1):
            if function is extract.embed_shard and number == num:
                os.kill(os.getpid(), signal.SIGKILL)
            yield result

    RayEngine.map_shards = dying  # type: ignore[method-assign]


def _run(moment: str, argv: list[str], environment: dict[str, str], log: str) -> None:
    """Run the command line up to `moment`, in the process that is to die."""
    os.environ.clear()
    os.environ.update(environment)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, sys.stdout.fileno())
    os.dup2(stream, sys.stderr.fileno())
    from pipeline import cli

    num, _, where = moment.partition(":")
    if where == SHARDS:
        _die_at_shard(int(num))
    else:
        _die_at_rename(where, int(num))
    sys.argv = ["cxr-ssl", *argv]
    cli.main()
