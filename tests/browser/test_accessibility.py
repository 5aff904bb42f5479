"""No page shuts out who reads with their ears, with keys or in high contrast: axe-core finds nothing, folded or not."""

import pytest

from pipeline.explore.page import server
from pipeline.explore.viewer import Viewer
from pipeline.report import build
from tests.support import axe
from tests.support.browser import TOKEN, fresh_page, listening, served, sit_down
from tests.support.explored_run import explored_run
from tests.support.fake_page_session import FakeDesk, draw
from tests.support.report_runs import fake_run, write_audit, write_evaluation

pytestmark = [pytest.mark.browser, pytest.mark.accessibility]

SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
OPEN = "() => { for (const folded of document.querySelectorAll('details')) folded.open = true; }"


@pytest.mark.parametrize("size", SIZES)
def test_the_labelling_page(browser, tmp_path, size):
    draw(tmp_path / "images", 3)
    with (
        listening(FakeDesk(tmp_path, 3)) as base,
        fresh_page(browser, bypass_csp=True) as page,
    ):
        page.set_viewport_size(SIZES[size])
        page.goto(f"{base}/?token={TOKEN}")
        page.wait_for_selector("#name", state="visible")
        assert axe.violations(page) == []
        sit_down(page, f"{base}/", "Anna")
        assert axe.violations(page) == []


def test_the_page_of_the_pool(browser, tmp_path):
    run = explored_run(tmp_path / "run")
    with served(server.app(Viewer(run.folder, run.ctx.config), TOKEN)) as base:
        for size in SIZES.values():
            with fresh_page(browser, bypass_csp=True) as page:
                page.set_viewport_size(size)
                page.goto(f"{base}/?token={TOKEN}")
                page.wait_for_function("() => document.body.dataset.drawn === '120'")
                page.evaluate(OPEN)
                assert axe.violations(page) == []


def test_the_pages_of_a_report(browser, tmp_path):
    run = fake_run(tmp_path / "run", num_scans=60, num_rounds=1)
    write_audit(run, "caution")
    write_evaluation(run)
    build(run)
    shown = [(name, SIZES["phone"]) for name in ("index", "audit", "checklists")] + [("index", SIZES["desk"])]
    with fresh_page(browser, bypass_csp=True) as page:
        for name, size in shown:
            page.set_viewport_size(size)
            page.goto((run / "report" / f"{name}.html").as_uri())
            page.evaluate(OPEN)
            assert axe.violations(page) == [], name
