"""Pretrain a backbone on a cluster: `ray job submit --working-dir . -- python -m jobs.pretrain POOL --out DIR`.

Takes the options of `cxr-ssl pretrain`. DIR and the cache folder (CXR_SSL_CACHE) must lie on storage that all nodes
share, because the working directory of a job is thrown away with it.
"""

from functools import partial

from pipeline import cli

main = partial(cli.main, "pretrain")

if __name__ == "__main__":
    main()
