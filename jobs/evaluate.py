"""Evaluate a finished run on a cluster: `ray job submit --working-dir . -- python -m jobs.evaluate RUN --pool POOL`.

Takes the options of `cxr-ssl evaluate`. The folders must lie at URLs or on a disk that all nodes share, because the
working directory of a job is thrown away with it.
"""

import sys

from pipeline import cli


def main() -> None:
    """Run `cxr-ssl evaluate` with this process's arguments."""
    sys.argv[1:1] = ["evaluate"]
    cli.main()


if __name__ == "__main__":
    main()
