"""Embed a pool on a cluster: `ray job submit --working-dir . -- python -m jobs.embed POOL --out DIR`.

Takes the options of `cxr-ssl embed`. DIR and the embedding store must lie at URLs or on a disk that all nodes share,
because the working directory of a job is thrown away with it.
"""

import sys

from pipeline import cli


def main() -> None:
    """Run `cxr-ssl embed` with this process's arguments."""
    sys.argv[1:1] = ["embed"]
    cli.main()


if __name__ == "__main__":
    main()
