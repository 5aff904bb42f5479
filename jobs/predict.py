"""Predict a pool on a cluster: `ray job submit --working-dir . -- python -m jobs.predict RUN POOL --out FILE`.

Takes the options of `cxr-ssl predict`. RUN, the pool and FILE must lie on storage that all nodes share, because the
working directory of a job is thrown away with it.
"""

from functools import partial

from pipeline import cli

main = partial(cli.main, "predict")

if __name__ == "__main__":
    main()
