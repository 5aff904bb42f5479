"""The command line. Heavy libraries are imported inside the commands, so that --help answers at once.

In: arguments. Out: an exit code; one message for each error, never a traceback.
"""

import errno
import json
import os
import sys

from pipeline.cli.application import app
from pipeline.cli.printed import console
from pipeline.contracts import storage
from pipeline.contracts.errors import AuditBlocked, CxrSslError, Stopped, WaitingForLabels
from pipeline.runtime.processes import stop_signals

__all__ = ["app", "main"]
DEBUG = "CXR_SSL_DEBUG"  # set it to see the traceback of an unexpected error
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def main(*words: str) -> None:
    """Run the command; an error is one message and an exit code, never a traceback.

    Args:
        words: What stands before the arguments of this process, as a job puts its command there.
    """
    sys.argv[1:1] = words
    from pipeline.runtime.progress import configure_logging

    configure_logging(quiet="--quiet" in sys.argv or "-q" in sys.argv, verbose=False)
    try:
        with stop_signals.handled():
            app()
    except WaitingForLabels as waiting:
        console.complain(str(waiting.what), "waiting")
        _answer_failure("waiting", str(waiting.what))
        raise SystemExit(waiting.exit_code) from None
    except AuditBlocked as blocked:
        console.complain(str(blocked.what), "blocked")
        console.complain(f"see {blocked.where}", "report")
        _answer_failure("blocked", str(blocked.what))
        raise SystemExit(blocked.exit_code) from None
    except CxrSslError as error:
        is_stopped = isinstance(error, Stopped)
        console.complain(str(error), "stopped" if is_stopped else "error")
        _answer_failure("stopped" if is_stopped else "failed", str(error))
        raise SystemExit(error.exit_code) from None
    except Exception as error:  # the last door; the traceback is in crash.log, or shown on request
        if os.environ.get(DEBUG):
            raise
        _answer_failure("failed", f"{type(error).__name__}: {error}")
        raise SystemExit(_complain_of_crash(error)) from None


def _answer_failure(state: str, message: str) -> None:
    """With --json, standard output holds one object whatever happens."""
    if "--json" in sys.argv:
        console.say(json.dumps({"state": state, "message": message}))


def _complain_of_crash(error: Exception) -> int:
    """Say what happened; returns the exit code."""
    if isinstance(error, OSError) and error.errno in storage.FULL + storage.UNSTEADY + FORBIDDEN:
        fix = "make room" if error.errno in storage.FULL else "look at the storage"
        fix = "mend its permissions or name another folder" if error.errno in FORBIDDEN else fix
        known = CxrSslError(str(error.strerror), where=error.filename, fix=f"{fix}, then go on with --resume")
        console.complain(str(known), "error")
        return 2 if error.errno in FORBIDDEN else 1
    what = " ".join(f"{type(error).__name__}: {error}".split())
    details = "; ".join(getattr(error, "__notes__", [])) or f"set {DEBUG}=1 to see where"
    console.complain(f"{what[:300]}. This is a mistake of ours, please report it; {details}", "internal error")
    return 1
