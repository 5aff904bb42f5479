"""Sends a job to a cluster, follows its log and tells how it ended."""

import asyncio
import logging
import re
import socket
import tempfile
import time
import uuid
import zipfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.commands.cluster.submission import Submission
from pipeline.contracts.errors import EngineError, InputError
from pipeline.runtime.processes import stop_signals

PATIENCE_SECONDS = 10.0  # for a connection to the cluster
POLL_SECONDS = 1.0
STARTING = "No available agent"  # a head says so while its agent starts, after ten seconds of its own
STARTED_WITHIN_SECONDS = 90.0
LOST_AFTER_POLLS = 60  # a head that restarts is back within a minute
LARGEST_RATIO = 10  # of packing what jobs need: code and tables
MAX_UPLOAD_MIB = 100  # what the head of a cluster takes (DASHBOARD_CLIENT_MAX_SIZE of Ray)


def submit(submission: Submission, address: str, show: Callable[[str], None]) -> tuple[str, int]:
    """Run a job and wait for its end; returns its id and its exit code.

    Args:
        submission: What is sent.
        address: `http://HEAD:8265`.
        show: Takes pieces of the log as they come.

    Raises:
        InputError: the address, another version of Ray, or a folder that is too large.
        EngineError: no cluster answers, it refuses us, or the job ended without an exit code.
    """
    client = _connected(address)
    job_id = _send(client, submission, address)
    show(f"job {job_id} at {address}: {submission.entry}\n")
    last = deque[str](maxlen=200)

    def keep(piece: str) -> None:
        last.append(piece)
        show(piece)

    try:
        asyncio.run(_tail(client, job_id, keep))
        info = _ended(client, job_id, address)
    except KeyboardInterrupt as stop:
        fix = f"stop it with `ray job stop --address {address} {job_id}`"
        what = "no longer followed, the job goes on"
        raise stop_signals.stopped(stop, what=what, where=job_id, fix=fix) from None
    return job_id, _exit_code(info, job_id, "".join(last))


def _connected(address: str) -> Any:
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname:
        fix = "give that of the head's dashboard, such as http://HEAD:8265"
        raise InputError("is no address for jobs", value=address, where="--address", fix=fix)
    fix = "start the cluster, or correct --address; its dashboard must run (ray[default])"
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname, port), PATIENCE_SECONDS).close()
    except OSError as error:
        what = f"no cluster answers ({error.strerror or error})"
        raise EngineError(what, value=address, where="--address", fix=fix) from error
    import ray
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)

    try:
        client = JobSubmissionClient(address)
        theirs = client._server_ray_version  # Ray's client has asked, and has no public way to say it
    except AuthenticationError as error:
        hint = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"
        raise EngineError("the cluster wants a token, and not this one", where=address, fix=hint) from error
    except Exception as error:  # whatever listens there: Ray passes on what its libraries raise
        what = f"what answers is not a Ray cluster that takes jobs: {_short(error)}"
        raise EngineError(what, where=address, fix=fix) from error
    if theirs != ray.__version__:
        fix = f"install ray=={theirs} here, or submit from a machine of the cluster"
        raise InputError(f"the cluster runs Ray {theirs}, and this is {ray.__version__}", where=address, fix=fix)
    return client


def _send(client: Any, submission: Submission, address: str) -> str:
    """Submit the job, again while the head starts; returns its id."""
    give_up = time.monotonic() + STARTED_WITHIN_SECONDS
    with tempfile.TemporaryDirectory() as folder:
        package = pack(submission.working_dir, Path(folder) / "code.zip")
        while True:
            try:
                job_id: str = client.submit_job(
                    entrypoint=submission.entry,
                    runtime_env={"working_dir": str(package), "env_vars": dict(submission.variables)},
                    metadata={"job_name": submission.name, "entry": submission.entry},
                )
                return job_id
            except RuntimeError as error:
                if STARTING not in str(error) or time.monotonic() > give_up:
                    raise _not_taken(submission, address, error) from error
            time.sleep(POLL_SECONDS)


def _not_taken(submission: Submission, address: str, error: RuntimeError) -> Exception:
    """Why the cluster did not take a job."""
    if "413" in str(error) or "Too Large" in str(error):
        return _too_large(submission.working_dir, f"the cluster refuses it: {_short(error)}")
    return EngineError(f"the job was not taken: {_short(error)}", where=address, fix="see the head's log")


def pack(folder: Path, package: Path) -> Path:
    """Pack a folder as Ray does, and no two alike.

    A cluster deletes a package when the last job that uses it ends: the same one, submitted again at that moment,
    would be gone before it is unpacked.

    Raises:
        InputError: it is larger than a cluster takes.
    """
    from ray._private import ray_constants
    from ray._private.runtime_env.packaging import create_package

    sizes = files_sent(folder)
    if sum(sizes.values()) > LARGEST_RATIO * MAX_UPLOAD_MIB * 2**20:  # not worth an hour of packing
        raise _too_large(folder, _largest(sizes))
    excludes = ray_constants.get_runtime_env_default_excludes()
    create_package(str(folder), package, include_gitignore=True, excludes=excludes, logger=logging.getLogger(__name__))
    with zipfile.ZipFile(package, "a") as archive:
        archive.writestr(".submission", uuid.uuid4().hex)
    if package.stat().st_size > MAX_UPLOAD_MIB * 2**20:
        raise _too_large(folder, _largest(sizes))
    return package


def _largest(sizes: dict[str, int]) -> str:
    shown = [f"{path} ({sizes[path] / 2**20:.0f} MiB)" for path in sorted(sizes, key=sizes.__getitem__)[:-4:-1]]
    return f"a cluster takes {MAX_UPLOAD_MIB} MiB, packed; largest: {', '.join(shown)}"


def _too_large(folder: Path, what: str) -> InputError:
    fix = "name in .rayignore what the job does not need, or another --working-dir"
    return InputError(f"the working directory is too large: {what}", where=folder, fix=fix)


def files_sent(folder: Path) -> dict[str, int]:
    """Size in bytes of each file that Ray sends of a folder: all but what .gitignore and .rayignore name."""
    from ray._private import ray_constants
    from ray._private.runtime_env import packaging  # Ray's own walk: no other would leave out the same files

    sizes: dict[str, int] = {}

    def look(path: Path) -> None:
        if path.is_file():
            sizes[str(path.relative_to(folder))] = path.stat().st_size

    excludes = [packaging._get_excludes(folder, ray_constants.get_runtime_env_default_excludes())]
    packaging._dir_travel(folder, excludes, look, include_gitignore=True, logger=logging.getLogger(__name__))
    return sizes


async def _tail(client: Any, job_id: str, show: Callable[[str], None]) -> None:
    import aiohttp

    try:
        async for piece in client.tail_job_logs(job_id):
            show(piece)
    except (RuntimeError, aiohttp.ClientError) as error:
        show(f"\nthe log broke off ({_short(error)}); the job may go on\n")


def _ended(client: Any, job_id: str, address: str) -> Any:
    """What the cluster says of the job, once it has ended."""
    failures = 0
    while True:
        try:
            info = client.get_job_info(job_id)
            failures = 0
        except Exception as error:  # as in `_connected`
            failures += 1
            if failures >= LOST_AFTER_POLLS:
                fix = "look at the head; once it is up again, submit the same line again: the run goes on"
                raise EngineError(f"the cluster no longer answers: {_short(error)}", where=address, fix=fix) from error
        else:
            if info.status.is_terminal():
                return info
        time.sleep(POLL_SECONDS)


def _exit_code(info: Any, job_id: str, log: str) -> int:
    """The exit code of the job's program.

    Raises:
        EngineError: it has none, or a node lacks the package.
    """
    lacking = re.search(r"No module named '?((?:jobs|pipeline|embeddings)\b[\w.]*)", log)
    if info.driver_exit_code and lacking:
        fix = "submit from the code's folder (--working-dir), or install cxr-ssl on every node"
        raise EngineError(f"the node that ran the job has no {lacking.group(1)}", where=job_id, fix=fix)
    if info.driver_exit_code is None:
        what = f"the job ended without an exit code, {info.status.value.lower()}: {_short(info.message or '')}"
        raise EngineError(what, where=job_id, fix="see its log in the dashboard, and submit the same line again")
    return int(info.driver_exit_code)


def _short(error: object) -> str:
    return " ".join(str(error).split())[:300]
