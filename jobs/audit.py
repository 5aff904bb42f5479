"""Audit a pool or a run on a cluster: `ray job submit --working-dir . -- python -m jobs.audit POOL --out DIR`.

Takes the options of `cxr-ssl audit`. The folders must lie on storage that all nodes share, because the working
directory of a job is thrown away with it.
"""

from functools import partial

from pipeline import cli

main = partial(cli.main, "audit")

if __name__ == "__main__":
    main()
