"""Signals end a command by an exception that nothing swallows for good; a process is known from its successor."""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import threading

import pytest

from pipeline.contracts.errors import EngineError
from pipeline.runtime.processes import alive, ray_watch, stop_signals
from pipeline.runtime.progress import Progress

FIX = "go on"


@pytest.fixture(autouse=True)
def not_ignored():
    """As in a terminal; whoever starts the tests behind `&` or by `nohup` has told them to ignore SIGINT or SIGHUP."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGHUP, before[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_exception_with_the_exit_code_of_shells(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as caught, stop_signals.handled():
        os.kill(os.getpid(), number)
    error = stop_signals.stopped(caught.value, where="run", fix=FIX)
    assert error.exit_code == 128 + number
    assert ("user" if number == signal.SIGINT else number.name) in str(error)
    assert signal.getsignal(number) == before


def test_what_was_told_to_ignore_a_signal_goes_on_ignoring_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals.handled():
            os.kill(os.getpid(), signal.SIGHUP)
            stop_signals.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_was_swallowed_is_raised_at_the_next_step():
    with stop_signals.handled(), Progress(quiet=True) as progress:
        progress("embed", 1, 3)
        with contextlib.suppress(KeyboardInterrupt):  # as Python itself does in a finalizer
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(stop_signals.StopSignal):
            progress("embed", 2, 3)
    Progress(quiet=True)("embed", 3, 3)  # another command knows nothing of it


def test_the_last_word_is_written_whole_and_then_a_second_signal_ends_all():
    code = (
        "import os, signal, sys\n"
        "from pipeline.runtime.processes import stop_signals\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with stop_signals.handled():\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    except KeyboardInterrupt:\n"
        "        with stop_signals.held_back():\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            sys.stdout.write('written'); sys.stdout.flush()\n"
        "        sys.stdout.write('not this')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("written", 128 + signal.SIGINT), done.stderr


@pytest.mark.parametrize("handled", [True, False])
def test_a_ray_that_dies_ends_what_waits_for_it(handled):
    told = threading.Event()

    def dead():
        told.set()
        return "its process gcs_server is gone"

    if not handled:  # nobody is interrupted who did not ask for it
        assert not stop_signals.interrupt(EngineError("x"))
        return
    message = r"Ray has died: its process gcs_server is gone.*--resume"
    with pytest.raises(EngineError, match=message), stop_signals.handled(), stop_signals.as_it_was():
        ray_watch.RayWatch(dead, every_seconds=0.001)
        assert told.wait(20)
        threading.Event().wait(20)


def test_a_ray_that_dies_ends_also_what_a_script_started_behind_an_ampersand():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for it
    with pytest.raises(EngineError, match="Ray has died"), stop_signals.handled(), stop_signals.as_it_was():
        ray_watch.RayWatch(lambda: "its process raylet is gone", every_seconds=0.001)
        threading.Event().wait(20)


def test_a_head_that_misses_a_few_answers_is_not_dead():
    answers = iter([False, False, True, False, False, False])

    def ask():
        if not next(answers):
            raise EngineError("no cluster answers", value="10.0.0.1:6379")

    look = ray_watch.HeadLooks(ask)
    assert [look() for _ in range(6)] == [None] * 5 + ["no cluster answers at 10.0.0.1:6379"]


def test_whether_a_process_lives():
    mine = alive.this_process()
    assert alive.lives(mine) is True
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    assert alive.lives(mine | {"pid": child.pid}) is False
    assert alive.lives(mine | {"started": f"{mine['started']}0"}) is False, "its id is another's by now"
    assert alive.lives(mine | {"started": "before the restart:7"}) is False
    assert alive.lives(mine | {"host": f"not-{platform.node()}"}) is None
    assert alive.lives(mine | {"container": "pid:[1]"}) is None
