"""The page of the pool in a real browser: filter, lasso, tag, and put on the next queue; on a desk and on a phone."""

import pytest

from pipeline.explore.page import server
from pipeline.explore.viewer import Viewer
from pipeline.selection.marks import Marks
from tests.support.browser import TOKEN, fresh_page, served
from tests.support.explore_page import chosen, lasso
from tests.support.explored_run import explored_run

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return explored_run(tmp_path_factory.mktemp("explored") / "run")


@pytest.fixture
def link(run):
    with served(server.app(Viewer(run.folder, run.ctx.config), TOKEN)) as base:
        yield f"{base}/?token={TOKEN}"


def test_from_the_mistakes_to_the_next_queue(browser, link, run):
    with fresh_page(browser) as page:
        page.goto(link)
        assert chosen(page, 120) == 120
        page.click("#presets >> text=Mistakes")
        page.wait_for_function("() => document.body.dataset.chosen !== '120'")
        num_mistakes = chosen(page)
        assert 0 < num_mistakes < 30
        page.wait_for_function("num => document.querySelectorAll('.card').length === num", arg=num_mistakes)
        assert all("said without the label" in text for text in page.locator(".card").all_inner_texts())
        lasso(page, 0.02, 0.02, 0.98, 0.98)
        page.wait_for_selector("#chips >> text=inside the lasso")
        assert chosen(page) <= num_mistakes
        page.click("#do-tag")
        page.wait_for_selector("#banner-text:has-text('Give your name first')")
        page.fill("#who", "Dr. Meyer")
        page.fill("#tag", "<b>odd</b> hilum")
        page.click("#do-tag")
        page.wait_for_selector("#done:has-text('given to')")
        assert page.locator("#columns b").count() == 0  # text stays text
        page.click("#do-wish")
        page.wait_for_selector("#banner-text:has-text('have a label')")  # what is known need not be asked
    assert set(Marks.open(run.folder).tags) == {"<b>odd</b> hilum"}


def test_a_lasso_of_open_scans_waits_for_the_next_queue(browser, link, run):
    base = link.partition("?")[0]
    with fresh_page(browser, silent=True) as page:
        page.goto(link)
        chosen(page, 120)
        page.goto(f"{base}#split=train&asked=1")
        page.reload()
        assert chosen(page, 30) == 30
        page.goto(f"{base}#split=train")
        page.reload()
        chosen(page, 80)
        lasso(page, 0.02, 0.02, 0.98, 0.98)
        page.wait_for_selector("#chips >> text=inside the lasso")
        page.locator(".card input").nth(0).check()
        page.locator(".card input").nth(1).check()
        page.fill("#who", "Dr. Meyer")
        page.wait_for_selector("#target:has-text('2 you picked')")
        page.click("#target")
        page.locator(".card input").nth(0).uncheck()
        page.locator(".card input").nth(1).uncheck()
        page.click("#do-wish")
        page.wait_for_selector("#done:has-text('wait for the next queue')")
        assert "have a label" in page.inner_text("#done")
        with page.expect_download() as saved:
            page.click("#do-csv")
        lines = saved.value.path().read_text("utf-8").splitlines()
        assert len(lines) == 1 + chosen(page) and lines[0].startswith("image_id,")
        page.locator(".card button").first.click()
        page.wait_for_selector("#detail[open]")
        page.wait_for_function("() => document.querySelector('#detail-picture img').naturalWidth > 0")
        page.keyboard.press("Escape")
    wishes = Marks.open(run.folder).wishes
    assert wishes and {wish.who for wish in wishes.values()} == {"Dr. Meyer"}
    assert set(wishes) <= set(run.ids("train"))


def test_a_scan_is_found_by_its_name(browser, link, run):
    image_id = run.ids("train")[3]
    with fresh_page(browser, silent=True) as page:
        page.goto(link)
        chosen(page, 120)
        page.fill("#begins", image_id[:12])
        page.click("#find >> text=Find")
        page.wait_for_selector(f"#detail[open] #detail-title:has-text('{image_id}')")
        page.click("#detail-close")
        page.fill("#begins", "ffffffffffff")
        page.press("#begins", "Enter")
        page.wait_for_selector("#banner-text:has-text('No scan of this run has a name that begins with ffff')")


def test_a_link_opens_a_scan_among_all(browser, link, run):
    image_id = run.ids("train")[5]
    with fresh_page(browser, silent=True) as page:
        page.goto(link)
        chosen(page, 120)
        base, other = link.partition("?")[0], run.ids("train")[6]
        page.goto(f"{base}#scan={image_id}")  # in the page that is open
        page.wait_for_selector(f"#detail[open] #detail-title:has-text('{image_id}')")
        page.goto("about:blank")
        page.goto(f"{base}#scan={other}")
        page.wait_for_selector(f"#detail[open] #detail-title:has-text('{other}')")
        assert chosen(page, 120) == 120 and page.locator("#banner").is_hidden()


def test_a_phone(browser, link, run):
    with fresh_page(browser, silent=True, **PHONE) as page:
        page.goto(link)
        chosen(page, 120)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.tap("#tabs [data-tab=scans]")
        page.wait_for_selector(".card")
        page.tap("#tabs [data-tab=filters]")
        page.tap("#columns summary:has-text('split')")
        page.tap("#columns label:has-text('holdout')")
        chosen(page, 40)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.tap("#tabs [data-tab=scans]")
        assert all("sealed" in text for text in page.locator(".card p").all_inner_texts())
        page.fill("#who", "Dr. Meyer")
        page.fill("#tag", "on the way home")
        page.tap("#do-tag")
        page.wait_for_selector("#done:has-text('given to 40 scans')")
    assert len(Marks.open(run.folder).tags["on the way home"]) == 40
