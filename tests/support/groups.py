"""Groups of tests that need something of the machine, and what two processes must not start twice."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass


def chromium_program() -> str | None:
    """The Chromium on the PATH."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _label_studio() -> bool:
    """Asked for, it is installed; unasked, nobody's disk is filled with a gigabyte."""
    from tests.support import label_studio_server

    return "labelstudio" in REQUIRED or label_studio_server.is_installed()


@dataclass(frozen=True)
class Group:
    """Tests with one mark.

    Attributes:
        lack: What is missing where they are skipped, and how to get it.
        is_there: Whether this machine has it.
    """

    lack: str
    is_there: Callable[[], bool]


GROUPS = {
    "browser": Group("no Chromium: apt-get install chromium", lambda: chromium_program() is not None),
    "labelstudio": Group("no Label Studio: make label-studio", _label_studio),
    "objectstore": Group("no fsspec: make install", lambda: importlib.util.find_spec("fsspec") is not None),
    "real": Group("no real scans: set CXR_SSL_DATA to their folder", lambda: bool(os.environ.get("CXR_SSL_DATA"))),
}
# Where CXR_SSL_REQUIRE=browser,real names a group, a test of it that is skipped has failed.
REQUIRED = frozenset(filter(None, os.environ.get("CXR_SSL_REQUIRE", "").split(",")))
# What starts the same thing stays in one process: mark to name of the process's share, what takes longest first.
TOGETHER = {"cluster": "ray", "ray": "ray", "labelstudio": "labelstudio", "browser": "browser"}


def groups_of(item) -> list[str]:
    """The groups a test is in."""
    return [name for name in GROUPS if item.get_closest_marker(name)]


def share_of(item) -> str:
    """Name of what one process runs whole: all that starts the same thing, else a file with its fixtures."""
    marks = [share for mark, share in TOGETHER.items() if item.get_closest_marker(mark)]
    return marks[0] if marks else item.nodeid.partition("::")[0]


def rank_of(item) -> int:
    """Shares that take long come first: the last one to end is a short one."""
    order = list(dict.fromkeys(TOGETHER.values()))
    share = share_of(item)
    return order.index(share) if share in order else len(order)
