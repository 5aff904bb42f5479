"""What work costs a processor: tests compare two costs, no clock, so a busy machine changes nothing."""

import time


def cpu_seconds(work, tries=3):
    """The least CPU seconds of several tries of `work()`."""
    seconds = []
    for _ in range(tries):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)
