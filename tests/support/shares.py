"""How processes share the tests: a file stays whole, what starts Ray stays together, what takes long begins first.

The scheduler is our own because pytest-xdist 3.8 no longer sees the groups of tests under pytest 9.2: it sends every
test anywhere, and each process then makes every file's fixtures anew.
"""

from xdist.scheduler import LoadScopeScheduling

RAY = "tests/ray/"  # one Ray for all of them, one process that others are copies of; what has a mark below lies there
WHOLE = (RAY, "tests/per_finding/")  # folders whose files have costly fixtures in common
RAY_MARKS = ("ray", "cluster")
# Longest first, each of ten seconds of a processor and more; a short one is to end last, or one process waits.
LONG = (
    RAY,
    "tests/per_finding/",
    "tests/browser/test_page_browser.py",
    "tests/audit/test_real_pools.py",
    "tests/learn/network/test_adapter.py",
    "tests/commands/test_audit.py",
    "tests/vectors/test_pretrain.py",
    "tests/examples/test_notebooks.py",
    "tests/browser/test_independent_page.py",
    "tests/pool/test_duplicates.py",
    "tests/test_end_to_end.py",
    "tests/commands/test_export.py",
    "tests/browser/test_offline_page.py",
    "tests/commands/test_cli.py",
    "tests/commands/test_annotate.py",
    "tests/embeddings/test_pretrain_loop.py",
    "tests/browser/test_accessibility.py",
    "tests/browser/test_deep_picture.py",
    "tests/annotate/test_page_server.py",
    "tests/pool/test_phantoms.py",
    "tests/rounds/test_forecast_round.py",
    "tests/measures/test_consensus.py",
    "tests/baselines/test_baselines.py",
    "tests/pool/test_reading.py",
    "tests/browser/test_explore_page.py",
    "tests/browser/test_from_the_map_to_the_report.py",
    "tests/annotate/test_label_studio_server.py",
    "tests/learn/network/test_low_rank.py",
    "tests/embeddings/test_network_stages.py",
    "tests/report/test_report.py",
    "tests/docs/test_docs.py",
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
