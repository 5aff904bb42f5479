"""SIGTERM, SIGINT and SIGHUP end a command by an exception in its main thread, so that it can say its state.

Ctrl-C, `kill`, a scheduler's time limit and a closed terminal all end a command in the same way: what is finished is
kept, the state is written, Ray is stopped, and the exit code is 128 and the number of the signal, as shells have it.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from pipeline.contracts.errors import CxrSslError, Stopped

_NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SHELL_BASE = 128  # exit code of a command that signal N ended: 128 + N


class StopSignal(KeyboardInterrupt):
    """A signal asked this process to end.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Pending:
    """What is to end the main thread; a library that swallows an exception does not swallow this."""

    error: BaseException | None = None
    is_installed = False
    numbers: tuple[int, ...] = ()  # signals that end it: those that the process was not told to ignore
    is_said = False  # the state is on disk: a further signal may end the process at once


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Signals end what is inside by an exception. Nothing changes in other threads than the main one.

    A signal that the process was told to ignore, as by `nohup`, stays ignored.
    """
    if _Pending.is_installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _NUMBERS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, _end)
    _Pending.is_installed, _Pending.numbers = True, tuple(before)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _Pending.error, _Pending.is_installed, _Pending.is_said, _Pending.numbers = None, False, False, ()


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """What a library made of a signal, a plain KeyboardInterrupt, leaves as what was raised first: Ray does so."""
    try:
        yield
    except KeyboardInterrupt:
        check()
        raise


def check() -> None:
    """Raise what was to end this command and got lost: Python drops exceptions in finalizers and callbacks."""
    if _Pending.error is not None and threading.current_thread() is threading.main_thread():
        raise _Pending.error


def interrupt(error: CxrSslError) -> bool:
    """End the main thread by an error, from another thread; False where no signal is `handled`.

    It sees a StopSignal, which `as_it_was` makes the error: Ray drops any other exception that comes by a signal.
    """
    if not _Pending.numbers:
        return False
    if _Pending.error is None:
        _Pending.error = error
        # It wakes the thread from a system call, too. What a script starts behind `&` was told to ignore SIGINT.
        signal.pthread_kill(threading.main_thread().ident or 0, _Pending.numbers[0])
    return True


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """No signal arrives inside, where the last word is written; one that comes later ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    try:
        yield
        _Pending.is_said = _Pending.error is not None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stopped(stop: KeyboardInterrupt, *, what: str | None = None, where: object = None, fix: str) -> Stopped:
    """The error that tells of a signal, with its exit code; `what` instead of who stopped it."""
    error = Stopped(what or in_words(stop), where=where, fix=fix)
    error.exit_code = SHELL_BASE + _number_of(stop)
    return error


def in_words(stop: KeyboardInterrupt) -> str:
    """Who stopped it."""
    number = _number_of(stop)
    return "stopped by the user" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"


def _number_of(stop: KeyboardInterrupt) -> int:
    return stop.number if isinstance(stop, StopSignal) else signal.SIGINT


def _end(number: int, _: FrameType | None) -> None:
    if _Pending.is_said:
        os._exit(SHELL_BASE + number)
    if _Pending.error is None:
        _Pending.error = StopSignal(number)
    raise _Pending.error if isinstance(_Pending.error, StopSignal) else StopSignal(number)
