"""How often functions are called: how work grows, the same on every machine and however busy it is."""

import sys
from collections.abc import Callable
from typing import Any


def num_calls(work: Callable[[], object]) -> int:
    """Calls of Python's and C's functions by this thread during `work()`."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls
