"""Whether the process that wrote something still lives: by its id, the moment it started, and its machine.

The id alone tells nothing: after a restart another process has it.
"""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def this_process() -> dict[str, Any]:
    """What another process has to know to find this one: {"pid", "started", "host", "container"}."""
    return {
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "host": platform.node(),
        "container": _container(),
    }


def lives(process: dict[str, Any]) -> bool | None:
    """Whether the process that wrote this lives; None where this machine cannot know.

    Args:
        process: As `this_process` gave it, perhaps on another machine, in another container, or before a restart.
    """
    if process.get("host") != platform.node() or not process.get("started"):
        return None
    if _boot_of(str(process["started"])) == _boot_of(_started(os.getpid())) and process["container"] != _container():
        return None  # its ids are not ours
    return _started(int(process["pid"])) == str(process["started"])


def _started(pid: int) -> str | None:
    """When a process started, as a text that no other process of this id has; None where there is none."""
    if not _BOOT.exists():  # macOS
        answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return answer.stdout.strip() or None
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, ticks = after_name[0], after_name[19]  # fields 3 and 22, see proc_pid_stat(5)
    return None if state in "ZX" else f"{_BOOT.read_text('ascii').strip()}:{ticks}"


def _boot_of(started: str | None) -> str:
    return (started or "").partition(":")[0]


def _container() -> str | None:
    """Of the ids of processes: those of a container are its own."""
    try:
        return str(_NAMESPACE.readlink())
    except OSError:
        return None
