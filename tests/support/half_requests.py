"""Connections that send half a request and then nothing, as many as asked for, opened again when closed."""

import random
import select
import socket
import threading
import time

HEADERS = b"POST /api/answer HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
BODY = b"POST /api/answer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"
LOOK_SECONDS = 0.05


class HalfRequests:
    """Holds connections open to a port of this machine, in a thread, while it is entered.

    Attributes:
        num_open: How many stood open, at each look.
    """

    def __init__(self, port: int, num: int) -> None:
        self.port, self.num, self.num_open = port, num, list[int]()
        self._held: list[socket.socket] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)

    def __enter__(self) -> "HalfRequests":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for connection in self._held:
            connection.close()

    def _hold(self) -> None:
        rng = random.Random(0)
        while self.num and not self._ended.wait(LOOK_SECONDS):
            self._drop_closed()
            self.num_open.append(len(self._held))
            while len(self._held) < self.num:
                try:
                    connection = socket.create_connection(("127.0.0.1", self.port), 5)
                    self._held.append(connection)
                    connection.sendall(rng.choice((b"", HEADERS, BODY)))
                except OSError:  # killed just now
                    time.sleep(LOOK_SECONDS)
                    break

    def _drop_closed(self) -> None:
        """Whatever can be read is an end: nothing was asked for."""
        look = select.poll()
        for connection in self._held:
            look.register(connection, select.POLLIN)
        ready = {number for number, _ in look.poll(0)}
        for connection in [each for each in self._held if each.fileno() in ready]:
            self._held.remove(connection)
            connection.close()
