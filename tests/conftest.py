"""What the rooms share: one cache and one Ray for all, one Chromium a module; groups and shares are held here."""

import gc
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # processes that share the cores; before numpy or torch start their threads
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Ray's workers are as urgent as the tests that wait for them: by default whatever else runs comes first.
os.environ.setdefault("RAY_worker_niceness", "0")

import hypothesis
import pytest

from tests.support import groups

hypothesis.settings.register_profile("busy machines", deadline=None)  # what takes long there is no mistake
hypothesis.settings.load_profile("busy machines")


def pytest_configure(config):
    if strange := sorted(groups.REQUIRED - groups.GROUPS.keys()):
        raise pytest.UsageError(f"CXR_SSL_REQUIRE: no such group: {', '.join(strange)} (of {', '.join(groups.GROUPS)})")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from tests.support import shares

    return shares.Shares(config, log)


def pytest_collection_modifyitems(items):
    """Mark what needs a browser; where several processes share the tests, what takes long comes first."""
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker("browser")
    if "PYTEST_XDIST_WORKER" in os.environ:
        from tests.support import shares

        items.sort(key=lambda item: shares.rank_of(item.nodeid))


def pytest_collection_finish():
    """What is imported by now stays: the garbage collector, which takes half a second over it, looks no more."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item):
    for name in groups.groups_of(item):
        if not groups.GROUPS[name].is_there():
            pytest.skip(f"{name}: {groups.GROUPS[name].lack}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    report.groups = groups.groups_of(item)  # travels with the report to where the summary is written
    if report.skipped and groups.REQUIRED.intersection(report.groups):
        report.outcome = "failed"
        report.longrepr = f"skipped, and CXR_SSL_REQUIRE wants it run: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter):
    skipped = {name for report in terminalreporter.stats.get("skipped", ()) for name in getattr(report, "groups", ())}
    if skipped:
        reasons = ", ".join(f"{name} ({groups.GROUPS[name].lack})" for name in groups.GROUPS if name in skipped)
        terminalreporter.write_line(f"skipped groups: {reasons}")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """One cache for all tests and nobody else's: a backbone is exported once, a scan embedded once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each process has a folder of its own in the one of all
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_SSL_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def unsynced():
    """No file waits for the disk: that is for a loss of power, which no test has, and takes milliseconds each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def sketched():
    """Of charts only the words are written, unless a test takes `drawn`."""
    from tests.support import sketched_chart

    with sketched_chart.sketched():
        yield


@pytest.fixture
def drawn():
    """Charts as people see them."""
    from tests.support import sketched_chart

    with sketched_chart.drawn():
        yield


@pytest.fixture(scope="session")
def ray_session():
    """A RayEngine on two CPUs; Ray is started once, every start costs seconds."""
    from pipeline.contracts.options.running import EngineConfig
    from pipeline.runtime.ray_engine import RayEngine
    from tests.support import ray_head

    with ray_head.running(num_cpus=2):
        yield RayEngine(EngineConfig(max_retries=2))


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, one a module; every start costs a second."""
    from tests.support.browser import chromium

    with chromium() as running:
        yield running
