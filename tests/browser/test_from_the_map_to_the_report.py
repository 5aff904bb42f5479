"""From the map to the report in a real browser: a region of mistakes is tagged, wished for, labelled, and reported."""

import pyarrow as pa
import pytest

from pipeline import report
from pipeline.annotate.page_session import Desk
from pipeline.contracts import config_file
from pipeline.contracts.answers import Answer
from pipeline.contracts.tables import MANIFEST, WISHED, write_text
from pipeline.explore.page import server
from pipeline.explore.viewer import Viewer
from pipeline.runtime import run_files
from pipeline.selection.marks import Marks
from tests.support.browser import TOKEN, fresh_page, listening, press, served, sit_down, wait_sent
from tests.support.explore_page import chosen, lasso
from tests.support.people import say
from tests.support.synthetic_run import options
from tests.support.waiting_run import FINDINGS, queue_ids, queue_rows, waiting_run, waits

SOURCES = ("Riverside", "St. Anne")
POOL = {"num_scans": 120, "num_holdout": 40, "distance": 0.8, "queue__holdout_budget": 10}


@pytest.fixture
def run(tmp_path):
    """One round that people have answered, of scans of two hospitals."""
    run = waiting_run(tmp_path / "run", **POOL, queue__budget=30, queue__min_seconds=0, rounds__num=1)
    manifest = MANIFEST.read(run.folder)
    sources = pa.array([SOURCES[i % 2] for i in range(len(manifest))], pa.string())
    MANIFEST.write(run.folder, manifest.set_column(manifest.column_names.index("source"), "source", sources))
    say(run.folder, [Answer(i, run.truth[i], "Ann", 1) for i in queue_ids(run.folder)], FINDINGS)
    assert waits(run) is None
    return run


def test_a_region_of_mistakes_is_wished_for_labelled_and_named_by_the_report(browser, run):
    with (
        served(server.app(Viewer(run.folder, run.ctx.config), TOKEN)) as base,
        fresh_page(browser, silent=True) as page,
    ):
        page.goto(f"{base}/?token={TOKEN}")
        chosen(page, 120)
        page.click("#presets >> text=Mistakes")
        page.wait_for_function("() => document.body.dataset.chosen !== '120'")
        page.click("#columns summary:has-text('source')")
        page.click("#columns label:has-text('Riverside')")
        page.wait_for_selector("#chips >> text=source: Riverside")
        num_mistakes = chosen(page)
        page.fill("#who", "Dr. Meyer")
        page.fill("#tag", "mistaken")
        page.click("#do-tag")
        page.wait_for_selector("#done:has-text('given to')")
        page.click("#chips >> text=mistake")  # what is mistaken has a label; its neighbours may be asked for
        page.wait_for_function("num => Number(document.body.dataset.chosen) > num", arg=num_mistakes)
        lasso(page, 0.02, 0.02, 0.98, 0.98)
        page.wait_for_selector("#chips >> text=inside the lasso")
        page.click("#do-wish")
        page.wait_for_selector("#done:has-text('wait for the next queue')")
    tagged = Marks.open(run.folder).tags["mistaken"]
    assert 0 < len(tagged) == num_mistakes
    sources = dict(MANIFEST.read(run.folder).select(["image_id", "source"]).to_pandas().itertuples(index=False))
    wished = set(Marks.open(run.folder).wishes)
    assert wished and {sources[i] for i in (*tagged, *wished)} == {"Riverside"}

    ctx = options(run, rounds__num=2, queue__budget=8, queue__wished_share=0.5, queue__uniform_share=0.25)
    write_text(run.folder / run_files.RESOLVED, config_file.dump(ctx.config))
    going_on = type(run)(**{**vars(run), "ctx": ctx})
    assert "round 2 waits for 8 of 8 labels" in waits(going_on)
    asked = {row["image_id"] for row in queue_rows(run.folder, 2) if row["kind"] == WISHED}
    assert len(asked) == 4 and asked < wished

    desk = Desk(run.folder, ctx.config, FINDINGS)
    try:
        with listening(desk) as base, fresh_page(browser) as page:
            sit_down(page, f"{base}/?token={TOKEN}", "Dr. Meyer")
            while page.get_attribute("body", "data-state") != "done":
                press(page, str(FINDINGS.index(run.truth[page.get_attribute("body", "data-scan")]) + 1))
                page.wait_for_selector("body[data-ready=true], body[data-state=done]")
            wait_sent(page)
            report_of = page.context.new_page()
            assert waits(going_on) is None
            report_of.goto(report.build(run.folder).as_uri())
            named = report_of.locator("#queues li:has-text('wished for') .id").all_inner_texts()
            assert len(named) == 4 and {image_id[: len(named[0])] for image_id in asked} == set(named)
            assert "4 scans were “wished for”" in report_of.inner_text("#queues")
    finally:
        desk.close()
