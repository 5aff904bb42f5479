"""The command line in a process that dies at a moment, as by `kill -9`; a clock would miss the moment, this cannot.

`python -m tests.support.dying_run MOMENT ARGV …`. MOMENT is `NUM:END-OF-A-PATH`: as the file is about to appear at
such a path for the NUM-th time, all written and not yet renamed; or `NUM:shards`: as Ray gives back the NUM-th shard
of embeddings while its workers are at others.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

SHARDS = "shards"


def run_until_killed(moment: str, argv: Sequence[object], environment: dict[str, str]) -> None:
    """Start the command line in a new process and wait until it has died at `moment`."""
    command = [sys.executable, "-m", "tests.support.dying_run", moment, *map(str, argv)]
    process = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.returncode == -signal.SIGKILL, f"{moment}: {process.returncode} {process.stderr[-3000:]}"


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
    from pipeline.runtime.engine import RayEngine

    map_shards = RayEngine.map_shards

    def dying(engine: RayEngine, function: Callable[[Any], Any], shards: Sequence[Any], **more: bool) -> Iterator[Any]:
        for number, result in enumerate(map_shards(engine, function, shards, **more), start=1):
            if function is extract.embed_shard and number == num:
                os.kill(os.getpid(), signal.SIGKILL)
            yield result

    RayEngine.map_shards = dying  # type: ignore[method-assign]


def main(moment: str, *argv: str) -> None:
    """Run the command line up to `moment`."""
    from pipeline import cli

    num, _, where = moment.partition(":")
    if where == SHARDS:
        _die_at_shard(int(num))
    else:
        _die_at_rename(where, int(num))
    sys.argv = ["cxr-ssl", *argv]
    cli.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
