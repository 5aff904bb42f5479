"""No table of a report is cut off: it wraps or scrolls in its own box; on paper, where nothing scrolls, it wraps."""

import pytest

from pipeline.per_finding import report as per_finding_report
from pipeline.report import build
from tests.per_finding.test_report import several_run
from tests.support.browser import chromium
from tests.support.report_runs import fake_run, write_audit, write_evaluation

pytestmark = pytest.mark.browser

WIDTHS_PX = (390, 1024, 1440)
PAPER_PX = 688  # A4 less the margins that the style sheet sets

# Every box that holds more than it shows and does not scroll, and the page's own width.
LOOK = """() => {
  for (const folded of document.querySelectorAll('details')) folded.open = true;
  const cut = [];
  for (const box of document.querySelectorAll('body, body *')) {
    if (box.closest('svg, .visually-hidden') || !box.clientWidth) continue;
    const style = getComputedStyle(box), scrolls = ['auto', 'scroll'].includes(style.overflowX);
    if (style.display !== 'inline' && !scrolls && box.scrollWidth > box.clientWidth + 1)
      cut.push(`${box.tagName}.${box.className} ${box.scrollWidth} of ${box.clientWidth}`);
  }
  const wide = [...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1);
  const tables = document.querySelectorAll('table').length;
  return {cut, tables, page: document.documentElement.scrollWidth - innerWidth,
    wide: wide.map(box => box.ariaLabel), unboxed: document.querySelectorAll('table:not(.scroll table)').length};
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Every kind of page that a run leaves, with long names in the tables."""
    home = tmp_path_factory.mktemp("tables")
    findings = ("normal", "bronchopulmonary dysplasia", "viral pneumonia")
    run = fake_run(home / "run", findings=findings, num_scans=120, num_rounds=1)
    write_audit(run, "caution", findings=findings)
    write_evaluation(run, findings)
    build(run)
    several = several_run(home / "several", findings=("effusion",), num_rounds=1)
    per_finding_report.build(several)
    found = [*sorted((run / "report").glob("*.html")), several / "report" / "index.html"]
    assert [page.name for page in found] == ["audit.html", "checklists.html", "index.html", "index.html"]
    return found


@pytest.fixture(scope="module")
def looks(pages):
    """What `LOOK` sees of each page, by the page and the width; on paper by `PAPER_PX`."""
    seen = {}
    with chromium() as browser:
        page = browser.new_page()
        for path in pages:
            page.emulate_media(media="screen")
            page.goto(path.as_uri())
            for width in WIDTHS_PX:
                page.set_viewport_size({"width": width, "height": 900})
                seen[path, width] = page.evaluate(LOOK)
            page.emulate_media(media="print")
            page.set_viewport_size({"width": PAPER_PX, "height": 900})
            seen[path, PAPER_PX] = page.evaluate(LOOK)
    return seen


@pytest.mark.parametrize("width", [*WIDTHS_PX, PAPER_PX])
def test_no_table_is_cut_off(looks, pages, width):
    for path in pages:
        found = looks[path, width]
        assert (found["cut"], found["page"], found["unboxed"]) == ([], 0, 0), path
    assert sum(looks[path, width]["tables"] for path in pages) > 20


def test_on_paper_no_table_needs_to_scroll_and_at_a_desk_not_the_slices(looks, pages):
    assert {name for path in pages for name in looks[path, PAPER_PX]["wide"]} == set()
    assert "Sub-populations" not in {name for path in pages for name in looks[path, 1024]["wide"]}


def test_on_a_phone_the_name_of_a_class_below_a_picture_stands_in_one_line(pages):
    report = pages[2]  # classes of the length of `pneumonia`
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(report.as_uri())
        widths = page.evaluate(
            """() => {
              const word = document.createElement("b");
              word.textContent = "pneumonia";
              const scan = document.querySelector("#queues .scans li");
              scan.append(word);
              return [word.getClientRects().length, scan.clientWidth];
            }"""
        )
    assert widths[0] == 1 and widths[1] > 90
