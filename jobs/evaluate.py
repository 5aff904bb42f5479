"""Evaluate a finished run on a cluster: `ray job submit --working-dir . -- python -m jobs.evaluate RUN --pool POOL`.

Takes the options of `cxr-ssl evaluate`. The folders must lie on storage that all nodes share, because the working
directory of a job is thrown away with it.
"""

from functools import partial

from pipeline import cli

main = partial(cli.main, "evaluate")

if __name__ == "__main__":
    main()
