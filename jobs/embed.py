"""Embed a pool on a cluster: `ray job submit --working-dir . -- python -m jobs.embed POOL --out DIR`.

Takes the options of `cxr-ssl embed`. DIR and the embedding store must lie on storage that all nodes share, because the
working directory of a job is thrown away with it.
"""

from functools import partial

from pipeline import cli

main = partial(cli.main, "embed")

if __name__ == "__main__":
    main()
