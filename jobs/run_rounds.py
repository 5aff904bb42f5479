"""The main job on a cluster: `ray job submit --working-dir . -- python -m jobs.run_rounds --config FILE --out DIR`.

Takes the options of `cxr-ssl run`. DIR and the embedding store must lie at URLs or on a disk that all nodes share,
because the working directory of a job is thrown away with it.
"""

import sys

from pipeline import cli


def main() -> None:
    """Run `cxr-ssl run` with this process's arguments."""
    sys.argv[1:1] = ["run"]
    cli.main()


if __name__ == "__main__":
    main()
