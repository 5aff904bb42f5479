"""A process of its own for work that may crash, hang or fill the memory: one request after the other, with limits.

Decoders of pictures are written in C and are given files from everywhere. A crash of one ends this process, not the
run; the next request starts a new one.
"""

import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from functools import lru_cache
from typing import IO, Any

_START_SECONDS = 180.0  # imports, on a busy machine with a cold disk
_HEAD = struct.Struct(">IQ")
_READY: dict[str, Any] = {"ready": True}


class GuardError(Exception):
    """The process crashed or took too long; the message says which."""


class GuardedProcess:
    """Answers requests by `answer(question, data) -> (answer, data)` of a module, in a process of its own.

    Args:
        module: Dotted name of the module.
        max_bytes: Memory that a request may take.
    """

    def __init__(self, module: str, max_bytes: int) -> None:
        self._module, self._max_bytes = module, max_bytes
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: dict[str, Any], data: bytes, max_seconds: float) -> tuple[dict[str, Any], bytes]:
        """One request.

        Raises:
            GuardError: the process crashed, or there was no answer in time; the next request finds a new one.
        """
        process = self._running()
        assert process.stdin is not None
        try:
            _send(process.stdin, question, data)
            return _receive_by(process, time.monotonic() + max_seconds)
        except TimeoutError:
            self.close()
            raise GuardError(f"it took longer than {max_seconds:g} seconds") from None
        except (OSError, EOFError):
            raise GuardError(self._how_it_ended()) from None

    def start(self) -> None:
        """Start the process, unless it runs.

        Raises:
            GuardError: it cannot be started.
        """
        self._running()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert stream is not None
                    stream.close()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, self._module, str(self._max_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # decoders talk
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
            try:
                _receive_by(self._process, time.monotonic() + _START_SECONDS)
            except (OSError, EOFError) as error:
                raise GuardError(f"no process to work in could be started: {self._how_it_ended()}") from error
        return self._process

    def _how_it_ended(self) -> str:
        process = self._process
        assert process is not None
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        self.close()
        if code >= 0:
            return f"its process ended with code {code}"
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")


@lru_cache(maxsize=4)
def shared(module: str, max_bytes: int) -> GuardedProcess:
    """The process of a module that all requests of this process share; it ends with it."""
    process = GuardedProcess(module, max_bytes)
    atexit.register(process.close)
    return process


def _send(stream: IO[bytes], head: dict[str, Any], data: bytes) -> None:
    text = json.dumps(head).encode()
    stream.write(_HEAD.pack(len(text), len(data)))
    stream.write(text)
    stream.write(data)
    stream.flush()


def _receive_by(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[dict[str, Any], bytes]:
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    num_text, num_data = _HEAD.unpack(_read_by(pipe, _HEAD.size, deadline))
    head: dict[str, Any] = json.loads(_read_by(pipe, num_text, deadline))
    return head, _read_by(pipe, num_data, deadline)


def _read_by(pipe: int, num: int, deadline: float) -> bytes:
    """So many bytes, read past the stream's own buffer, which `select` does not see."""
    parts = []
    while num:
        ready, _, _ = select.select([pipe], [], [], max(deadline - time.monotonic(), 0.0))
        if not ready:
            raise TimeoutError
        part = os.read(pipe, num)
        if not part:
            raise EOFError
        parts.append(part)
        num -= len(part)
    return b"".join(parts)


# --- inside the process -----------------------------------------------------------------------------------------------


def serve(module: str, max_bytes: int) -> None:
    """Answer requests until there are none."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; who asked ends this process
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not spoil the answers
    answer = importlib.import_module(module).answer
    _limit(max_bytes)
    _send(answers, _READY, b"")
    while head := sys.stdin.buffer.read(_HEAD.size):
        num_text, num_data = _HEAD.unpack(head)
        question = json.loads(sys.stdin.buffer.read(num_text))
        result, data = answer(question, sys.stdin.buffer.read(num_data))
        _send(answers, result, data)


def _limit(max_bytes: int) -> None:
    """No more memory than what is taken by now and so much; no file for the dump of a crash."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123 - not a file
            taken = int(stream.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (taken + max_bytes, taken + max_bytes))
    except (ImportError, OSError, ValueError):
        return  # a system that does not count memory so; the limit of time stays


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
