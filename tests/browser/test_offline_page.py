"""The labelling page as a file: opened from a folder, answered, saved as a table."""

import csv
import datetime as dt
import io
import re

import pytest

from pipeline.annotate.page.backend import Task
from pipeline.annotate.page.modules import bundled
from pipeline.annotate.page.offline import COLUMNS, offline_html
from pipeline.contracts.answers import MAX_NAME, RESERVED, annotator_name
from pipeline.contracts.errors import InputError
from tests.support.browser import fresh_page, press, wait_ready
from tests.support.fake_page_session import FINDINGS, draw, image_id

NUM = 6


def write_bundle(folder, num=NUM, **more):
    draw(folder / "images", min(num, 12))
    tasks = [Task(image_id(i), i + 1) for i in range(num)]
    given = {
        "findings": FINDINGS,
        "annotator": "Anna Meyer",
        "round_index": 2,
        "run": "run-1",
        "title": "Round 2",
    } | more
    (folder / "label.html").write_text(offline_html(tasks, **given), "utf-8")
    return (folder / "label.html").as_uri()


@pytest.fixture
def page(browser):
    with fresh_page(browser, silent=True, own_profile=True) as opened:
        yield opened


def download(page):
    with page.expect_download() as coming:
        page.click("#save")
    assert coming.value.suggested_filename == "answers.csv"
    text = coming.value.path().read_text("utf-8")
    return list(csv.DictReader(io.StringIO(text))), text


def test_the_file_needs_nothing_but_its_pictures(tmp_path):
    write_bundle(tmp_path)
    text = (tmp_path / "label.html").read_text("utf-8")
    assert re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=\"(?!data:)[^\"]*", text) == []
    assert "https://" not in text and "/api/" not in text and str(tmp_path) not in text
    assert "unsafe-inline" not in text and "default-src 'none'".replace("'", "&#39;") in text


def test_all_answers_come_back_as_a_table(page, tmp_path):
    page.goto(write_bundle(tmp_path))
    start = dt.datetime.now(dt.UTC)
    keys = ["2", "Shift+1", "c", "4", "Shift+n", "3"]
    scans = [press(page, keys[0]), press(page, keys[1])]
    page.reload()
    scans.append(press(page, "1"))
    page.keyboard.press("z")
    assert [press(page, key) for key in keys[2:]] == [image_id(i) for i in range(2, 6)]
    page.wait_for_selector("body[data-state=done]")
    rows, text = download(page)
    assert text.splitlines()[0] == ",".join(COLUMNS)
    assert [row["label"] for row in rows] == [
        "pneumonia",
        "normal",
        "cannot tell",
        "nodule",
        "not a chest X-ray",
        "effusion",
    ]
    assert [row["certainty"] for row in rows] == ["sure", "unsure", "", "sure", "unsure", "sure"]
    for i, row in enumerate(rows):
        assert (row["image_id"], row["rank"], row["file"]) == (image_id(i), str(i + 1), f"images/{image_id(i)}.png")
        assert (row["annotator"], row["round"], row["run"]) == ("Anna Meyer", "2", "run-1")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["labelled_at"])
        assert abs((dt.datetime.fromisoformat(row["labelled_at"]) - start).total_seconds()) < 120
        assert 0 < float(row["seconds"]) < 60
    assert page.inner_text("#save") == "Saved as answers.csv"


def test_what_is_done_so_far_can_be_saved_and_unsaved_answers_warn(page, tmp_path):
    page.goto(write_bundle(tmp_path))
    wait_ready(page)
    assert page.is_disabled("#save")
    warned = []
    page.on("dialog", lambda dialog: (warned.append(dialog.type), dialog.accept()))
    press(page, "1")
    page.reload()
    assert warned == ["beforeunload"]
    wait_ready(page)
    assert page.inner_text("#count") == "1 of 6"
    rows, _ = download(page)
    assert [row["label"] for row in rows] == ["normal"]
    page.reload()
    wait_ready(page)
    assert warned == ["beforeunload"] and page.inner_text("#save") == "Saved as answers.csv"
    press(page, "2")
    assert page.inner_text("#save") == "Save answers"
    rows, _ = download(page)
    assert [row["label"] for row in rows] == ["normal", "pneumonia"]


def test_cells_are_neither_formulas_nor_markup(page, tmp_path):
    findings = ("=1+1", "</script><b>x</b>", 'a "quoted", one', "-none", "@x")
    page.goto(write_bundle(tmp_path, findings=findings, annotator="+Anna", run="=run"))
    for key in "12345":
        press(page, key)
    rows, _ = download(page)
    assert [row["label"] for row in rows] == ["'=1+1", findings[1], findings[2], "'-none", "'@x"]
    assert {(row["annotator"], row["run"]) for row in rows} == {("'+Anna", "'=run")}
    assert page.locator("#rail b:not(#count)").count() == 0


def test_bundles_of_other_rounds_and_annotators_keep_apart(page, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    page.goto(write_bundle(tmp_path / "a"))
    press(page, "1")
    download(page)
    page.goto(write_bundle(tmp_path / "b", round_index=3))
    wait_ready(page)
    assert page.inner_text("#count") == "0 of 6"


def give_name(page, name):
    page.fill("#name", name)
    page.press("#name", "Enter")


def test_a_bundle_of_nobody_asks_for_the_name_and_keeps_people_apart(page, tmp_path):
    link = write_bundle(tmp_path, annotator="")
    page.goto(link)
    give_name(page, "=cmd()")
    page.wait_for_selector("#enter-error:has-text('is no annotator')")
    give_name(page, "  Anna   Meyer ")
    press(page, "1")
    assert press(page, "2") == image_id(1)
    rows, _ = download(page)
    assert [(row["label"], row["annotator"]) for row in rows] == [("normal", "Anna Meyer"), ("pneumonia", "Anna Meyer")]
    page.reload()  # it is still Anna who reads
    wait_ready(page)
    assert (page.inner_text("#annotator"), page.inner_text("#count")) == ("Anna Meyer", "2 of 6")
    page.click("#change")
    give_name(page, "Ben")
    page.wait_for_selector("#count:text-is('0 of 6')")
    assert press(page, "4") == image_id(0)
    rows, _ = download(page)
    assert [(row["label"], row["annotator"]) for row in rows] == [("nodule", "Ben")]
    page.click("#change")
    give_name(page, "anna meyer")
    page.wait_for_selector("#count:text-is('2 of 6')")
    assert wait_ready(page) == image_id(2)


def test_a_bundle_of_nobody_takes_no_name_from_another_bundle(page, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    page.goto(write_bundle(tmp_path / "a", annotator=""))
    give_name(page, "Anna")
    wait_ready(page)
    page.goto(write_bundle(tmp_path / "b", annotator="", run="run-2"))
    page.wait_for_selector("#enter[open]")
    assert page.input_value("#name") == ""


NAMES = (
    "Anna",
    " Anna \t B ",
    "Dr. O'Hara-Smith_2@x.org:a/b+c",
    "Zoë Müller",
    "Zoe\u0308",
    "李雷",
    "अनिल",
    "٣",
    "²",
    "Ⅳ",
    "x" * 64,
    "a\u0085b",
    "a\u001cb",
    "a\u2028b",
    "a\u3000b",
    "",
    "   ",
    "=cmd()",
    "+Anna",
    "-Anna",
    "@Anna",
    ".Anna",
    "'Anna",
    "<b>Anna</b>",
    "a,b",
    'a"b',
    "a\u0000b",
    "a\ufeffb",
    "a\u200bb",
    "x" * 65,
    "𝒳" * 64,
    "𝒳" * 65,
    "pool",
    "ORACLE",
    "Model",
    "model 2",
    "\u0308a",
    "Anna 😀",
    "a|b",
    "a;b",
    "a\\b",
)


def test_names_are_taken_and_refused_as_the_server_does(page, tmp_path):
    def kept(name):
        try:
            return annotator_name(name)
        except InputError:
            return None

    script = f"{bundled('offline.js')}\nwindow.OfflineDesk = module_offline.OfflineDesk;"
    (tmp_path / "desk.html").write_text(f'<!doctype html><script type="module">{script}</script>', "utf-8")
    page.goto((tmp_path / "desk.html").as_uri())
    found = page.evaluate(
        """async ([names, rules]) => {
          const config = { annotator: '', names: rules, run: 'run-1', round: 2, tasks: [] }, out = [];
          for (const name of names) {
            const desk = new OfflineDesk(config, () => {});
            out.push(await desk.enter(name).then(() => desk.annotator, () => null));
          }
          return out;
        }""",
        [NAMES, {"reserved": RESERVED, "longest": MAX_NAME}],
    )
    assert found == [kept(name) for name in NAMES]
    assert found.count(None) > 20 and len(set(found)) > 12


def test_one_window_at_a_time_shows_the_list(page, tmp_path):
    link = write_bundle(tmp_path)
    page.goto(link)
    first = press(page, "1")
    other = page.context.new_page()
    other.goto(link)
    page.wait_for_selector("body[data-state=aside]")
    page.keyboard.press("2")
    second = press(other, "2")
    rows, _ = download(other)
    assert [(row["image_id"], row["label"]) for row in rows] == [(first, "normal"), (second, "pneumonia")]
    page.click("text=Read here")
    assert wait_ready(page) == image_id(2)


def test_windows_that_cannot_lock_save_each_others_answers(page, tmp_path):
    link, other = write_bundle(tmp_path), page.context.new_page()
    for window in (page, other):
        window.add_init_script("Object.defineProperty(navigator, 'locks', { value: undefined });")
        window.goto(link)
        wait_ready(window)
    press(page, "1")
    assert press(other, "2") == image_id(0)  # the same scan: the later answer stands
    press(other, "3")
    press(page, "4")
    for window in (page, other):
        rows, _ = download(window)
        assert [row["image_id"] for row in rows] == [image_id(0), image_id(1)]
        assert [row["label"] for row in rows] == ["pneumonia", "nodule"]
        assert {row["annotator"] for row in rows} == {"Anna Meyer"}


@pytest.mark.slow
def test_five_thousand_scans_open(page, tmp_path):
    page.goto(write_bundle(tmp_path, 5000))
    assert wait_ready(page) == image_id(0)
    assert page.inner_text("#count") == "0 of 5000"
