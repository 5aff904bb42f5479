"""Several processes answer over HTTP behind one port; one that ends is started again while the others answer."""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.predict import other_scans, recipe
from pipeline.predict.deployed import service

if TYPE_CHECKING:
    from starlette.applications import Starlette

log = logging.getLogger(__name__)
SETTINGS = "CXR_SSL_REPLICA"  # how a replica, a process of its own, hears what it serves
HEALTH_SECONDS = 60  # a replica that has not answered its supervisor for so long is started again


def serve(folder: Path, host: str, port: int, token: str | None, max_bytes: int, num: int) -> None:
    """Serve with so many processes until told to end.

    Args:
        folder: The run.
        host: Address to listen on.
        port: The same.
        token: What askers must know; None: nothing.
        max_bytes: Of a scan.
        num: Replicas.

    Raises:
        InputError: the run has no classifier, or the address or the port cannot be used.
    """
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from pipeline.pages.served.listening import listening_socket

    recipe.of_run(
        folder, other_scans.config_for(folder, str(folder), {})
    )  # a replica that cannot begin, begins for ever
    os.environ[SETTINGS] = json.dumps({"folder": str(folder.absolute()), "max_bytes": max_bytes})
    if token is not None:
        os.environ[service.TOKEN] = token
    config = uvicorn.Config(
        f"{__name__}:app",
        factory=True,
        workers=num,
        log_level="warning",
        access_log=False,
        timeout_worker_healthcheck=HEALTH_SECONDS,
    )
    with listening_socket(host, port) as sock:
        log.info("serving %s on http://%s:%d with %d processes", folder, host, port, num)
        Multiprocess(config, target=uvicorn.Server(config).run, sockets=[sock]).run()


def app() -> "Starlette":
    """The application of one replica, as the environment says."""
    settings = json.loads(os.environ[SETTINGS])
    return service.app(Path(settings["folder"]), os.environ.get(service.TOKEN), settings["max_bytes"])
