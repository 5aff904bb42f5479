"""Storage that fails for a moment: the same step again after a while, a few times; then what went wrong is raised.

Source of the waits: exponential back-off, as in RFC 8085, section 3.1.3, cut off where a person wants to hear of it.
"""

import errno
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

FULL = (errno.ENOSPC, errno.EDQUOT)
# What shared storage says while a server restarts, a connection breaks or a lease is renewed.
UNSTEADY = (
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.ECONNRESET, errno.ECONNABORTED),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH),
    getattr(errno, "EREMOTEIO", errno.EIO),  # a mistake inside the storage's server
)
WAITS_SECONDS = (0.5, 2.0, 8.0)  # between the tries of a step that a run stands on
SCAN_WAITS_SECONDS = (0.5,)  # of one scan among many, which is left out where it stays unreadable


def patiently(step: Callable[[], T], where: object, waits_seconds: Sequence[float] | None = None) -> T:
    """What a step returns; one that storage interrupts is done again after each of the waits.

    Args:
        step: May be done again, whatever it has done.
        where: What it works on, for the log.
        waits_seconds: None: `WAITS_SECONDS`.

    Raises:
        OSError: storage still fails after the last wait, or fails in a way that does not pass.
    """
    for wait in WAITS_SECONDS if waits_seconds is None else waits_seconds:
        try:
            return step()
        except OSError as error:
            if error.errno not in FULL + UNSTEADY:
                raise
            log.warning("%s: %s; tried again in %g s", where, error.strerror, wait)
        time.sleep(wait)
    return step()
