"""How processes share the tests: a file stays whole, what starts Ray stays together, what takes long begins first.

The scheduler is our own because pytest-xdist 3.8 no longer sees the groups of tests under pytest 9.2: it sends every
test anywhere, and each process then makes every file's fixtures anew.
"""

from xdist.scheduler import LoadScopeScheduling

RAY = "tests/ray/"  # one Ray for all of them; what has one of these marks must lie there
WHOLE = (RAY, "tests/per_finding/")  # folders whose files have costly fixtures in common
RAY_MARKS = ("ray", "cluster")
# Each takes ten seconds of a processor and more; a short one is to end last, or one process waits for the other.
LONG = (
    RAY,
    "tests/audit/test_real_pools.py",
    "tests/per_finding/",
    "tests/annotate/test_label_studio_server.py",
    "tests/browser/test_page_browser.py",
    "tests/browser/test_human_rounds.py",
    "tests/commands/test_annotate.py",
    "tests/commands/test_bench.py",
    "tests/commands/test_cli.py",
    "tests/commands/test_audit.py",
    "tests/test_end_to_end.py",
)


class Shares(LoadScopeScheduling):
    """Hands the next share to the process that is ready for it."""

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid)


def share_of(nodeid: str) -> str:
    """Name of what one process runs whole: a file with its fixtures, or a folder of `WHOLE`."""
    return next(filter(nodeid.startswith, WHOLE), nodeid.partition("::")[0])


def rank_of(nodeid: str) -> int:
    """Place of a test's share in `LONG`; the others come behind, in their own order."""
    share = share_of(nodeid)
    return LONG.index(share) if share in LONG else len(LONG)


def astray(items) -> list[str]:
    """Tests that start Ray and lie where another process would start it as well."""
    needs = (item.nodeid for item in items if any(map(item.get_closest_marker, RAY_MARKS)))
    return [nodeid for nodeid in needs if not nodeid.startswith(RAY)]
