"""Pretrain a backbone on a cluster: `ray job submit --working-dir . -- python -m jobs.pretrain POOL --out DIR`.

Takes the options of `cxr-ssl pretrain`. DIR and the cache folder (CXR_SSL_CACHE) must lie on storage that all nodes
share, because the working directory of a job is thrown away with it.
"""

import sys

from pipeline import cli


def main() -> None:
    """Run `cxr-ssl pretrain` with this process's arguments."""
    sys.argv[1:1] = ["pretrain"]
    cli.main()


if __name__ == "__main__":
    main()
