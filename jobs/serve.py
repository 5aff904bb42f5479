"""Serve a run's model over HTTP on a machine that many ask: `python -m jobs.serve RUN --host 0.0.0.0`.

Takes the options of `cxr-ssl serve`. The token is read from CXR_SSL_TOKEN or a file, never from the command line.
"""

from functools import partial

from pipeline import cli

main = partial(cli.main, "serve")

if __name__ == "__main__":
    main()
