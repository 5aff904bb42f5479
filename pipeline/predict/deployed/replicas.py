"""Several processes answer over HTTP behind one port; one that ends is started again while the others answer."""

import json
import logging
import os
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING

from pipeline.predict.deployed import service

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from uvicorn.supervisors import Multiprocess

log = logging.getLogger(__name__)
SETTINGS = "CXR_SSL_REPLICA"  # how a replica, a process of its own, hears what it serves
START_SECONDS = (
    15  # a replica that lives and does not answer its supervisor for so long, as one may that starts, is replaced
)
CANNOT_START = 3  # exit status by which uvicorn knows that starting again would not help


def serve(folder: Path, host: str, port: int, token_file: Path | None, max_bytes: int, num: int) -> None:
    """Serve with so many processes until told to end.

    Args:
        folder: The run.
        host: Address to listen on.
        port: The same.
        token_file: Holds what askers must know; None: the variable `service.TOKEN` does, if it is set.
        max_bytes: Of a scan.
        num: Replicas.

    Raises:
        InputError: the run has no classifier, or the address or the port cannot be used.
    """
    import uvicorn

    from pipeline.pages.served.listening import listening_socket

    service.Model(folder, max_bytes)  # what cannot be loaded is said here, before a process is started
    file = None if token_file is None else str(token_file.absolute())  # the token itself is for no environment
    settings = {"folder": str(folder.absolute()), "host": host, "token_file": file, "max_bytes": max_bytes}
    os.environ[SETTINGS] = json.dumps(settings)
    listening_socket(host, port).close()  # a taken port is said here; the supervisor, which takes it, would just end
    log.info("serving %s on http://%s:%d with %d processes", folder, host, port, num)
    options = uvicorn.Config(
        f"{__name__}:app",
        factory=True,
        workers=num,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_worker_healthcheck=START_SECONDS,
    )
    supervise(options)


def supervise(options: "uvicorn.Config") -> None:
    """Start the replicas, and each again that ends, until told to end."""
    supervisor(options, [options.bind_socket()]).run()


def supervisor(options: "uvicorn.Config", sockets: list[socket]) -> "Multiprocess":
    """What starts replicas again; it sees at once that one has ended, also one that was starting.

    The supervisor of uvicorn itself holds both ends of the pipe that a replica answers by, so that it waits for the
    answer of one that has ended until the time is up.
    """
    from uvicorn.supervisors import Multiprocess

    class Supervisor(Multiprocess):
        def keep_subprocess_alive(self) -> None:
            for process in self.processes:
                process.child_conn.close()  # the replica has its own by now
            super().keep_subprocess_alive()

    return Supervisor(options, sockets=sockets)


def app() -> "Starlette":
    """The application of one replica, as the environment says.

    Raises:
        SystemExit: it cannot start; all replicas end, instead of being started again for ever.
    """
    settings = json.loads(os.environ[SETTINGS])
    file = settings["token_file"]
    try:
        token = service.token_of(None if file is None else Path(file), settings["host"])
        os.environ.pop(service.TOKEN, None)  # what a replica starts opens scans of strangers and must not inherit it
        return service.app(Path(settings["folder"]), token, settings["max_bytes"])
    except Exception as error:
        log.exception("a replica cannot start")
        raise SystemExit(CANNOT_START) from error
