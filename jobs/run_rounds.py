"""The main job on a cluster: `ray job submit --working-dir . -- python -m jobs.run_rounds --config FILE --out DIR`.

Takes the options of `cxr-ssl run`. DIR and the embedding store must lie on storage that all nodes share, because the
working directory of a job is thrown away with it.
"""

from functools import partial

from pipeline import cli

main = partial(cli.main, "run")

if __name__ == "__main__":
    main()
