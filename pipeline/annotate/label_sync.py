"""A thread that brings answers from the journal into `labels.parquet` while annotators work."""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.contracts.errors import CxrSslError, RunBusy
from pipeline.labels import label_table
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.object_storage.working_copy import WorkingCopy

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0  # while a run holds the table; it takes the answers itself
REST = 10  # times as long as the work: never more than a tenth of the time is spent on it
LONGEST_REST_SECONDS = 10.0
# Of a run at a URL, where each look costs requests: while another machine holds it, and for a new queue from there.
RETRY_AT_URL_SECONDS, LOOK_AT_URL_SECONDS = 20.0, 60.0


class Settler:
    """Keeps the label table up to date, as soon as it can, at most a tenth of the time."""

    def __init__(self, folder: Path, findings: Sequence[str]) -> None:
        self.folder, self.findings = folder, findings
        self._is_at_url = WorkingCopy.of(folder) is not None
        self._changed, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="settle", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that the journal has grown."""
        self._changed.set()

    def close(self) -> None:
        """Stop, with every answer in the table if no run is at work."""
        self._closed.set()
        self._changed.set()
        self._thread.join()
        self._settle()

    def _work(self) -> None:
        while not self._closed.is_set():
            self._changed.wait(LOOK_AT_URL_SECONDS if self._is_at_url else None)
            self._changed.clear()
            start = time.monotonic()
            if not self._settle():
                self._changed.set()
                self._closed.wait(RETRY_AT_URL_SECONDS if self._is_at_url else RETRY_SECONDS)
            self._closed.wait(min(LONGEST_REST_SECONDS, REST * (time.monotonic() - start)))

    def _settle(self) -> bool:
        """True when there is nothing left to do for now; False while a run is at work."""
        try:
            with run_dir.locked(self.folder, patience_seconds=0):
                label_table.settle(self.folder, self.findings)
        except RunBusy:
            return False
        except (CxrSslError, OSError) as error:
            log.warning("labels.parquet was not written, the answers are safe in %s: %s", run_files.ANSWERS, error)
        return True
