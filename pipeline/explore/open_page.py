"""Opens the page of a run."""

from collections.abc import Callable
from pathlib import Path

from pipeline.contracts.errors import InputError
from pipeline.explore.viewer import Viewer
from pipeline.runtime import private_files, run_dir
from pipeline.runtime.finding_folders import refuse_part


def explore(folder: Path, *, host: str, port: int, url: str | None, ready: Callable[[str], None]) -> None:
    """Serve the page until it is stopped.

    Args:
        folder: Run directory.
        host: Address to serve on.
        port: Port; 0 takes a free one.
        url: Address of a TLS proxy in front of the page, if there is one.
        ready: Called with the link once the page can be opened.

    Raises:
        InputError: when the folder is no run, has no vectors yet, the port is taken, or `annotate` is not installed.
    """
    try:
        from pipeline.explore.page.server import serve
    except ModuleNotFoundError as error:
        raise InputError(
            f"needs a package that is not installed ({error.name})",
            where="explore",
            fix="pip install 'cxr-ssl[annotate]'",
        ) from error
    config = run_dir.config_of(folder)
    refuse_part(folder)
    with private_files.readable_by(folder):
        serve(Viewer(folder, config), host=host, port=port, url=url, ready=ready)
