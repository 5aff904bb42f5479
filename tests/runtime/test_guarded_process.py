"""A crash, a hang or a hunger for memory ends the guarded process, never the one that asks."""

import os
import signal
import sys
import time

import pytest

from pipeline.runtime.guarded_process import GuardedProcess, GuardError

MODULE = "tests.runtime.test_guarded_process"


def answer(question, data):
    """What the guarded process does with a request of these tests."""
    what = question["do"]
    if what == "hang":
        time.sleep(60)
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "leave":
        sys.exit(7)
    if what == "grow":
        try:
            return {"size": len(bytearray(2**31))}, b""
        except MemoryError:
            return {"size": None}, b""
    sys.stdout.write("a decoder that talks\n")
    sys.stdout.flush()
    return {"said": question, "pid": os.getpid()}, data[::-1]


@pytest.fixture
def guard():
    process = GuardedProcess(MODULE, 2**30)
    yield process
    process.close()


def ask(guard, what, data=b"", seconds=60):
    return guard.ask({"do": what}, data, seconds)


def test_an_answer_and_another_from_the_same_process(guard):
    first, data = ask(guard, "turn", bytes(range(256)) * 1000)
    assert data == (bytes(range(256)) * 1000)[::-1] and first["said"] == {"do": "turn"}
    assert ask(guard, "turn")[0]["pid"] == first["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("what", "seconds", "reason"),
    [("crash", 60, "ended by SIGSEGV"), ("hang", 0.5, "longer than 0.5 seconds"), ("leave", 60, "with code 7")],
)
def test_after_a_failure_the_next_request_finds_a_new_process(guard, what, seconds, reason):
    before, _ = ask(guard, "turn")
    with pytest.raises(GuardError, match=reason):
        ask(guard, what, seconds=seconds)
    after, data = ask(guard, "turn", b"12")
    assert data == b"21" and after["pid"] != before["pid"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count memory so")
def test_memory_has_a_limit(guard):
    assert ask(guard, "grow")[0] == {"size": None}


def test_a_module_that_is_not_there():
    with pytest.raises(GuardError, match="no process to work in could be started"):
        ask(GuardedProcess("tests.no_such_module", 2**30), "turn")
