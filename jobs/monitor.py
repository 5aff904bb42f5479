"""Monitor a batch on a cluster: `ray job submit --working-dir . -- python -m jobs.monitor RUN POOL --out DIR`.

Takes the options of `cxr-ssl monitor`. RUN, the pool and DIR must lie on storage that all nodes share, because the
working directory of a job is thrown away with it.
"""

from functools import partial

from pipeline import cli

main = partial(cli.main, "monitor")

if __name__ == "__main__":
    main()
