"""Groups of tests that need something of the machine."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from tests.support import axe


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
    "accessibility": Group("no axe-core: npm ci", lambda: axe.SCRIPT.exists()),
    "browser": Group("no Chromium: apt-get install chromium", lambda: chromium_program() is not None),
    "labelstudio": Group("no Label Studio: make label-studio", _label_studio),
    "objectstore": Group("no fsspec: make install", lambda: importlib.util.find_spec("fsspec") is not None),
    "real": Group("no real scans: set CXR_SSL_DATA to their folder", lambda: bool(os.environ.get("CXR_SSL_DATA"))),
}
# Where CXR_SSL_REQUIRE=browser,real names a group, a test of it that is skipped has failed.
REQUIRED = frozenset(filter(None, os.environ.get("CXR_SSL_REQUIRE", "").split(",")))


def groups_of(item) -> list[str]:
    """The groups a test is in."""
    return [name for name in GROUPS if item.get_closest_marker(name)]
