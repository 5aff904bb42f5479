"""The labelling page of independent findings in a real browser, served and as a file, and the contact sheet."""

import csv
import io
import itertools

import pytest

from pipeline.annotate.contact_sheet import queue_html
from pipeline.annotate.import_files import Scans, Who, harvest
from pipeline.annotate.page.backend import Task
from pipeline.annotate.page.offline import offline_html
from pipeline.annotate.page_session import Desk
from pipeline.annotate.queue_csv import Origin
from pipeline.contracts import finding_line
from pipeline.contracts.answers import REMARKS, in_words, reply_of
from pipeline.contracts.finding_line import NONE, Independent
from pipeline.labels.journal import Journal
from tests.support.browser import TOKEN, fresh_page, listening, press, sit_down, wait_counted, wait_ready
from tests.support.fake_page_session import FakeDesk, draw, image_id
from tests.support.independent_run import FINDINGS, independent_run

BOUNCE_MS = 100  # a second press that comes sooner counts as a key that bounces
EFFUSION_AND_NODULE = "effusion=1|mass=0|nodule=1"
NOTHING = "effusion=0|mass=0|nodule=0"
SCANS = Scans({image_id(i): [2] for i in range(6)}, frozenset(), frozenset(), 2, "run-1")


@pytest.fixture
def page(browser):
    with fresh_page(browser) as opened:
        yield opened


@pytest.fixture
def file_page(browser):
    with fresh_page(browser, own_profile=True) as opened:
        yield opened


@pytest.fixture
def desk(tmp_path):
    draw(tmp_path / "images", 6)
    return FakeDesk(tmp_path, 6, findings=FINDINGS)


def mark(page, *keys):
    """Press keys one after the other, slowly enough for each to count."""
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(BOUNCE_MS)


def marked(page):
    """What the buttons show, and say to those who do not see them."""
    buttons = page.locator("#findings button").all()
    return [(one.get_attribute("aria-pressed"), one.inner_text().split("\n")[-1][-1:]) for one in buttons]


def states(page):
    return [one.get_attribute("aria-label") for one in page.locator("#findings button").all()]


def kept(desk):
    return {a["image_id"]: (a["reply"], a["certainty"]) for a in desk.answers}


def test_two_findings_are_marked_saved_undone_and_seen_again(page, tmp_path):
    """With the run's own desk, through a reload: the marks come back from the journal."""
    run = independent_run(tmp_path / "run", queue__min_seconds=0)
    desk = Desk(run.folder, run.ctx.config, FINDINGS)
    try:
        with listening(desk) as base:
            sit_down(page, f"{base}/?token={TOKEN}", "Anna")
            mark(page, "1", "3")
            assert states(page) == ["effusion: present", "mass: absent", "nodule: present"]
            assert page.inner_text("#hint") == "Marked: effusion, nodule."
            first = press(page, "Enter")
            assert page.inner_text("#last") == "Last: effusion, nodule"
            wait_ready(page)
            assert states(page) == ["effusion: absent", "mass: absent", "nodule: absent"]
            second = press(page, "0")
            wait_counted(page, 2)
            page.reload()
            wait_ready(page)
            for scan, told in ((second, "Taken back: no finding"), (first, "Taken back: effusion, nodule")):
                page.keyboard.press("z")
                page.wait_for_selector(f"body[data-scan='{scan}'][data-ready=true]")
                assert page.inner_text("#last") == told
            assert states(page) == ["effusion: present", "mass: absent", "nodule: present"]
            mark(page, "3")
            assert press(page, "Enter") == first
            wait_counted(page, 1)
        standing = {one.answer.image_id: one.answer for one in Journal.open(run.folder).active()}
    finally:
        desk.close()
    assert {i: (a.reply, a.certainty) for i, a in standing.items()} == {first: ("effusion=1|mass=0|nodule=?", "sure")}


def test_a_press_goes_round_the_three_states_and_a_bounce_does_not(page, desk):
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        seen = [marked(page)[1]]
        for _ in range(3):
            mark(page, "2")
            seen.append(marked(page)[1])
        assert seen == [("false", "s"), ("true", "✓"), ("mixed", "?"), ("false", "s")]
        states_after = page.evaluate(
            """async () => {
              const { element } = await import('/static/dom.js');
              const { Marks } = await import('/static/marks.js');
              const { findings, none } = JSON.parse(document.getElementById('config').textContent);
              const choices = findings.map((reply) => ({ reply, box: 'findings', button: element('button') }));
              const marks = new Marks({ findings, none }, choices, () => {}), out = [];
              const presses = [['mass', 1000], ['mass', 1079], ['nodule', 1090], ['mass', 1100], ['mass', 1180]];
              for (const [finding, now] of presses) {
                marks.turn('scan', finding, now);
                out.push(marks.said(marks.line('scan')));
              }
              marks.forget('scan');
              marks.turn('scan', 'mass', 1181);
              return [...out, marks.said(marks.line('scan'))];
            }"""
        )
        assert states_after == ["mass", "mass", "mass, nodule", "nodule; mass unknown", "nodule", "mass"]
        page.click("button[data-reply=mass]")
        page.keyboard.press("x")
        assert [pressed for pressed, _ in marked(page)] == ["false"] * 3
        mark(page, "Shift+2")
        assert page.get_attribute("#unsure", "aria-pressed") == "true"
        scan = press(page, "Enter")
        wait_counted(page, 1)
        assert kept(desk) == {scan: ("effusion=0|mass=1|nodule=0", "unsure")}


def test_nothing_marked_is_not_no_finding_and_nothing_contradicts_a_mark(page, desk):
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        first = page.get_attribute("body", "data-scan")
        page.keyboard.press("Enter")
        page.wait_for_selector("#hint.problem:has-text('Nothing is marked.')")
        page.click("#record")
        mark(page, "1")
        for key, button in (("0", NONE), ("c", REMARKS[0])):
            page.keyboard.press(key)
            page.wait_for_selector(
                f"#hint.problem:has-text('Marked: effusion. Clear that first (X) to answer “{button}”.')"
            )
        assert (page.get_attribute("body", "data-scan"), desk.answers) == (first, [])
        page.click("#clear")
        assert page.inner_text("#hint").startswith("Mark what you see")
        scans = [press(page, "b"), press(page, "Shift+0"), press(page, "0")]
        wait_counted(page, 3)
        assert scans[0] == first
        assert list(kept(desk).values()) == [("bad quality", None), (NOTHING, "unsure"), (NOTHING, "sure")]


def test_marks_of_a_scan_wait_while_another_is_taken_back(page, desk):
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        mark(page, "2")
        first = press(page, "Enter")
        second = wait_ready(page)
        mark(page, "3")
        page.keyboard.press("z")
        page.wait_for_selector(f"body[data-scan='{first}'][data-ready=true]")
        assert states(page)[1:] == ["mass: present", "nodule: absent"]
        assert press(page, "Enter") == first
        assert wait_ready(page) == second
        assert states(page)[1:] == ["mass: absent", "nodule: present"]
        press(page, "Enter")
        wait_counted(page, 2)
        assert kept(desk) == {
            first: ("effusion=0|mass=1|nodule=0", "sure"),
            second: ("effusion=0|mass=0|nodule=1", "sure"),
        }


def test_the_next_reader_finds_nothing_marked(page, desk):
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        mark(page, "2")
        assert states(page)[1] == "mass: present"
        page.click("#change")
        page.fill("#name", "Ben")
        page.click("#enter-go")
        page.wait_for_selector("#annotator:text-is('Ben')")
        wait_ready(page)
        page.wait_for_selector("button[data-reply=mass][aria-label='mass: absent']")


def test_a_button_with_the_focus_keeps_its_enter(page, desk):
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.focus("button[data-reply=mass]")
        page.keyboard.press("Enter")
        assert states(page)[1] == "mass: present" and desk.answers == []
        page.focus("#record")
        press(page, "Enter")
        wait_counted(page, 1)
        assert [reply for reply, _ in kept(desk).values()] == ["effusion=0|mass=1|nodule=0"]


def test_what_the_server_refuses_is_told_in_words(page, desk):
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        desk.ids.remove(page.get_attribute("body", "data-scan"))
        mark(page, "1", "2", "2")
        press(page, "Enter")
        page.wait_for_selector("#banner-text:has-text('not taken; the last: effusion; mass unknown, scan 1.')")


def test_help_lists_every_key(page, desk):
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.keyboard.press("?")
        rows = page.locator("#help-answers dt").all_inner_texts()
        assert rows == ["1", "2", "3", "again", "X", "Enter", "0", "C", "B", "N", "U", "Z", "A"]
        assert "save what is marked, and go on" in page.inner_text("#help")
        page.keyboard.press("Escape")
        page.wait_for_selector("#help", state="hidden")


def test_ten_findings_leave_the_zero_to_no_finding(page, tmp_path):
    draw(tmp_path / "images", 2)
    findings = Independent(f"f{i}" for i in range(10))
    desk = FakeDesk(tmp_path, 2, findings=findings)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        press(page, "0")
        wait_ready(page)
        page.click("button[data-reply=f9]")
        page.keyboard.press("9")
        press(page, "Enter")
        wait_counted(page, 2)
    first, second = [finding_line.read(reply) for reply, _ in kept(desk).values()]
    assert set(first.values()) == {0.0}
    assert {name for name, value in second.items() if value} == {"f8", "f9"}


def test_a_phone_has_room_for_scan_and_answers(browser, desk):
    size = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with listening(desk) as base, fresh_page(browser, **size) as phone:
        phone.goto(f"{base}/?token={TOKEN}")
        phone.fill("#name", "Anna")
        phone.tap("#enter-go")
        scan = wait_ready(phone)
        for name in ("button[data-reply=mass]", "button[data-reply=nodule]", "#record", "#clear"):
            assert phone.locator(name).bounding_box()["height"] >= 44
        assert phone.locator("#stage").bounding_box()["height"] >= 290
        assert phone.evaluate("document.documentElement.scrollWidth") == 390
        phone.tap("button[data-reply=mass]")
        before = phone.locator("#record").bounding_box()
        phone.tap("button[data-reply=nodule]")
        assert phone.locator("#record").bounding_box() == before
        phone.tap("#record")
        phone.wait_for_function("scan => document.body.dataset.scan !== scan", arg=scan)
        wait_counted(phone, 1)
    assert kept(desk) == {scan: ("effusion=0|mass=1|nodule=1", "sure")}


def test_the_page_says_a_line_as_everybody_else_does(page, desk):
    lines = [
        finding_line.write(dict(zip(FINDINGS, signs, strict=True)), FINDINGS)
        for signs in itertools.product((1.0, 0.0, float("nan")), repeat=3)
    ]
    replies = [*lines, *REMARKS, "effusion=1|pox=0", "effusion"]
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        told = page.evaluate(
            """async (replies) => {
              const { Marks } = await import('/static/marks.js');
              const config = JSON.parse(document.getElementById('config').textContent);
              const marks = new Marks(config, [], () => {});
              return replies.map((reply) => {
                marks.forget('scan');
                marks.restore('scan', reply);
                return [marks.said(reply), marks.line('scan')];
              });
            }""",
            replies,
        )
    assert [words for words, _ in told] == [*(in_words(line, FINDINGS) for line in lines), *replies[len(lines) :]]
    assert [line for _, line in told] == [*lines, *[NOTHING] * 5]


def download(page):
    with page.expect_download() as coming:
        page.click("#save")
    return coming.value.path().read_text("utf-8")


def test_a_bundle_asks_the_same_and_its_table_comes_back(file_page, tmp_path):
    page = file_page
    draw(tmp_path / "images", 6)
    html = offline_html(
        [Task(image_id(i), i + 1) for i in range(4)], FINDINGS, annotator="Anna", round_index=2, run="run-1", title="R"
    )
    (tmp_path / "index.html").write_text(html, "utf-8")
    page.goto((tmp_path / "index.html").as_uri())
    wait_ready(page)
    mark(page, "1", "3")
    scans = [press(page, "Enter"), press(page, "0"), press(page, "c")]
    for words in ("cannot tell", "no finding", "effusion, nodule"):
        page.keyboard.press("z")
        page.wait_for_selector(f"#last:text-is('Taken back: {words}')")
    wait_ready(page)
    assert states(page) == ["effusion: present", "mass: absent", "nodule: present"]
    mark(page, "2", "2")
    assert [press(page, "Enter"), press(page, "0"), press(page, "c")] == scans
    text = download(page)
    assert [row["label"] for row in csv.DictReader(io.StringIO(text))] == [
        "effusion=1|mass=?|nodule=1",
        NOTHING,
        "cannot tell",
    ]
    (tmp_path / "answers.csv").write_text(text)
    found = harvest([tmp_path / "answers.csv"], SCANS, FINDINGS, Who())
    assert [a.reply for a in found.answers] == ["effusion=1|mass=?|nodule=1", NOTHING, "cannot tell"]


def test_the_contact_sheet_collects_marks_that_do_not_contradict(file_page, tmp_path):
    page = file_page
    draw(tmp_path / "images", 4)
    rows = [
        {"image_id": image_id(i), "rank": i + 1, "file": str(tmp_path / "images" / f"{image_id(i)}.png")}
        for i in range(4)
    ]
    sheet = queue_html(rows, findings=FINDINGS, origin=Origin("Anna", 2, "run-1"))
    (tmp_path / "queue.html").write_text(sheet, "utf-8")
    page.goto((tmp_path / "queue.html").as_uri())
    of = lambda i: page.locator("#sheet li").nth(i).locator  # noqa: E731
    of(0)("[name=present][value=effusion]").check()
    of(0)("[name=present][value=nodule]").check()
    of(1)("[name=present][value=mass]").check()
    of(1)("[name=unknown][value=mass]").check()
    assert not of(1)("[name=present][value=mass]").is_checked()
    of(1)("[name=present][value=effusion]").check()
    of(2)("[name=present][value=mass]").check()
    of(2)(f"[value='{NONE}']").check()
    assert not of(2)("[name=present][value=mass]").is_checked()
    of(3)("[value='bad quality']").check()
    of(3)("[name=present][value=nodule]").check()
    assert page.inner_text("#done") == "4 of 4 answered"
    text = download(page)
    (tmp_path / "sheet.csv").write_text(text)
    found = harvest([tmp_path / "sheet.csv"], SCANS, FINDINGS, Who())
    assert found.mistakes == [] and {a.annotator for a in found.answers} == {"Anna"}
    assert [a.reply for a in found.answers] == [
        EFFUSION_AND_NODULE,
        reply_of("effusion|?mass", FINDINGS),
        NOTHING,
        reply_of("nodule", FINDINGS),
    ]
