"""At the page beside an answer: drawings, notes, definitions, a way back, and a word to who is too fast."""

import threading
from dataclasses import replace

import pytest

from pipeline.annotate.page.backend import Definition, PageOptions
from tests.support.browser import TOKEN, fresh_page, listening, press, sit_down, wait_ready, wait_sent
from tests.support.fake_page_session import FakeDesk, draw, image_id

NUM, SIDE = 6, 128
SPACING_MM = 2.0


class NotingDesk(FakeDesk):
    """Scans of a known spacing; the third is in dispute."""

    def next(self, annotator, num, held):
        tasks = super().next(annotator, num, held)
        return [replace(task, note=self.notes.get((task.image_id, annotator))) for task in tasks]

    def _task(self, one):
        differing = ("normal", "pneumonia") if one == image_id(2) else ()
        spacing_mm = SPACING_MM if one == image_id(0) else None
        return replace(super()._task(one), spacing_mm=spacing_mm, differing=differing)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder / "images", NUM, SIDE)
    return folder


@pytest.fixture
def make_desk(tmp_path, pictures):
    (tmp_path / "images").symlink_to(pictures / "images")
    return lambda **more: NotingDesk(tmp_path, NUM, page=PageOptions(**more))


@pytest.fixture
def page(browser):
    with fresh_page(browser, silent=True) as opened:
        yield opened


def drag(page, key, start, end):
    """Draw with a tool from one point to another, given as shares of the scan; waits until the server has it."""
    with page.expect_response("**/api/note"):
        draw_shape(page, key, start, end)


def draw_shape(page, key, start, end):
    box = page.locator("#view .scan").bounding_box()
    points = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, end)]
    page.keyboard.press(key)
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=2)
    page.mouse.up()


def test_what_is_drawn_and_noted_is_kept_in_pixels_of_the_scan(page, make_desk):
    desk = make_desk()
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        drag(page, "f", (0.25, 0.25), (0.5, 0.75))
        page.keyboard.press("t")  # turned by a quarter it is still the same place of the scan
        page.wait_for_selector("#view[data-turns='1']")
        drag(page, "l", (0.5, 0.25), (0.5, 0.75))
        assert page.text_content("#view .drawing text") == "128.0 mm"  # 64 pixels
        assert page.get_attribute("#measure", "aria-pressed") == "false"  # one drag, then the window again
        page.keyboard.press("k")
        page.fill("#note-comment", "1 left base?")  # no key of the page answers meanwhile
        page.check("#note-flag")
        with page.expect_response("**/api/note"):
            page.click("#note-form button")
        page.wait_for_selector("#last:text-is('Note saved')")
        note = desk.notes[image_id(0), "Anna"]
        assert (note.comment, note.flag) == ("1 left base?", True) and desk.answers == []
        box, length = note.shapes
        assert (box.kind, length.kind, length.length_mm) == ("box", "length", pytest.approx(128, abs=2))
        assert [box.x0, box.y0, box.x1, box.y1] == pytest.approx([32, 32, 64, 96], abs=0.6)
        assert abs(length.x1 - length.x0) == pytest.approx(64, abs=0.6) and length.y0 == pytest.approx(
            length.y1, abs=0.6
        )
        first = press(page, "1")
        wait_ready(page)
        assert page.locator("#view .drawing > *").count() == 0  # another scan
        page.keyboard.press("a")
        assert page.inner_text("#mine-entries small") == "flagged: 1 left base?"
        page.click("#mine-entries button")
        page.wait_for_selector(f"body[data-scan='{first}'][data-ready=true]")
        assert page.locator("#view .drawing rect").count() == 1
        page.keyboard.press("e")
        page.wait_for_function("() => document.querySelectorAll('#view .drawing > *').length === 0")


def test_any_earlier_answer_can_be_changed_and_stays_on_record(page, make_desk):
    desk = make_desk()
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        first, second, third = (press(page, key) for key in "123")
        shown = wait_ready(page)
        page.keyboard.press("a")
        page.wait_for_selector("#mine-entries button >> nth=2")
        assert [line.split("\n")[-1] for line in page.locator("#mine-entries button").all_inner_texts()] == [
            "effusion",
            "pneumonia",
            "normal",
        ]
        page.locator("#mine-entries button").last.click()
        page.wait_for_selector(f"body[data-scan='{first}'][data-ready=true]")
        assert page.inner_text("#last") == "Scan 1: your answer was normal. Answer again to change it."
        assert press(page, "4") == first and wait_ready(page) == shown  # and on where she was
        wait_sent(page)
    said = [(answer["image_id"], answer["reply"]) for answer in desk.answers]
    assert said == [(first, "normal"), (second, "pneumonia"), (third, "effusion"), (first, "nodule")]


def num_shapes(request):
    """Of the note that a request keeps; None: it keeps none."""
    return len(request.post_data_json["shapes"]) if request.url.endswith("/api/note") else None


def change_reader(page, name):
    page.click("#change")
    page.fill("#name", name)
    page.click("#enter-go")
    page.wait_for_selector(f"#annotator:text-is('{name}')")
    page.wait_for_selector("#enter", state="hidden")
    wait_ready(page)


def test_notes_arrive_in_their_order_and_wait_for_a_disk_that_is_full(browser, make_desk):
    desk = make_desk()
    take, late = desk.note, threading.Event()

    def take_late(annotator, image_id, note):
        if len(note.shapes) == 1:
            late.wait(20)
        take(annotator, image_id, note)

    desk.note = take_late
    with listening(desk) as base, fresh_page(browser) as page:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        draw_shape(page, "f", (0.1, 0.1), (0.3, 0.3))
        draw_shape(page, "f", (0.5, 0.5), (0.7, 0.7))  # while the first is on its way
        draw_shape(page, "f", (0.1, 0.5), (0.3, 0.7))
        page.wait_for_timeout(200)  # a note that does not wait for the first would be there now
        assert desk.notes == {}
        with page.expect_response(lambda reply: num_shapes(reply.request) == 3):
            late.set()
        assert len(desk.notes[image_id(0), "Anna"].shapes) == 3
        desk.full = True
        draw_shape(page, "f", (0.5, 0.1), (0.7, 0.3))
        page.wait_for_selector("#last:has-text('No space left on device')")
        desk.full = False
        page.wait_for_selector("#last:text-is('Note saved')")
    assert len(desk.notes[image_id(0), "Anna"].shapes) == 4


def test_the_next_reader_sees_nothing_of_the_one_before(page, make_desk):
    desk = make_desk()
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        drag(page, "f", (0.25, 0.25), (0.5, 0.75))
        page.keyboard.press("k")
        page.fill("#note-comment", "mass?")
        with page.expect_response("**/api/note"):
            page.click("#note-form button")
        page.wait_for_selector("#note-open[aria-pressed=true]")
        page.keyboard.press("u")
        change_reader(page, "Ben")
        assert wait_ready(page) == image_id(0)
        assert page.locator("#view .drawing > *").count() == 0
        assert page.get_attribute("#note-open", "aria-pressed") == "false"
        assert page.get_attribute("#unsure", "aria-pressed") == "false"
        page.keyboard.press("k")
        assert page.input_value("#note-comment") == ""
    assert list(desk.notes) == [(image_id(0), "Anna")]


def test_a_note_that_waits_is_there_again_when_its_reader_comes_back(browser, make_desk):
    desk = make_desk()
    desk.full = True
    with listening(desk) as base, fresh_page(browser) as page:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        draw_shape(page, "f", (0.1, 0.1), (0.3, 0.3))
        page.wait_for_selector("#last:has-text('No space left on device')")
        change_reader(page, "Ben")
        assert page.locator("#view .drawing rect").count() == 0
        change_reader(page, "Anna")
        assert page.locator("#view .drawing rect").count() == 1
        desk.full = False
        with page.expect_response(lambda reply: num_shapes(reply.request) == 2 and reply.ok):
            draw_shape(page, "f", (0.5, 0.5), (0.7, 0.7))
    assert {place: len(note.shapes) for place, note in desk.notes.items()} == {(image_id(0), "Anna"): 2}


def test_nothing_can_be_answered_while_somebody_else_sits_down(page, make_desk):
    desk = make_desk()
    enter, asked, released = desk.enter, threading.Event(), threading.Event()

    def enter_late(name):
        if name == "Ben":
            asked.set()
            released.wait(20)
        return enter(name)

    desk.enter = enter_late
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.click("#change")
        page.fill("#name", "Ben")
        page.click("#enter-go")
        assert asked.wait(20)
        for _ in range(3):
            page.keyboard.press("Escape")
        page.wait_for_selector("#enter", state="visible")
        assert page.is_disabled("#enter-cancel")
        page.keyboard.press("1")
        released.set()
        page.wait_for_selector("#annotator:text-is('Ben')")
        page.wait_for_selector("#enter", state="hidden")
        wait_ready(page)
        press(page, "2")
        wait_sent(page)
    assert [(answer["annotator"], answer["reply"]) for answer in desk.answers] == [("Ben", "pneumonia")]


def test_the_list_of_answers_waits_for_one_on_its_way(page, make_desk):
    desk = make_desk()
    take, asked, released = desk.answer, threading.Event(), threading.Event()

    def take_late(*answer):
        asked.set()
        released.wait(20)
        take(*answer)

    desk.answer = take_late
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        press(page, "2")
        page.keyboard.press("a")
        assert asked.wait(20)
        page.wait_for_timeout(200)  # a list that is asked for at once would come without it
        released.set()
        page.wait_for_selector("#mine-entries button:has-text('pneumonia')")


def test_an_answer_too_fast_to_have_looked_is_asked_for_again(page, make_desk):
    desk = make_desk(min_seconds=30)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.keyboard.press("1")
        page.wait_for_selector("#last:has-text('Press normal again if you have seen enough')")
        page.keyboard.press("2")  # another one is no confirmation
        page.wait_for_selector("#last:has-text('Press pneumonia again')")
        assert desk.answers == []
        press(page, "2")
        page.wait_for_selector("#last:text-is('Last: pneumonia')")
        wait_sent(page)
        assert [answer["reply"] for answer in desk.answers] == ["pneumonia"]


def test_a_german_adjudicator_on_a_phone_with_definitions(browser, make_desk):
    definitions = (
        Definition("normal", "Kein Befund.", 2),
        Definition("cannot tell", "Auch nach zwei Blicken nicht.", 0),
    )
    desk = make_desk(language="de", project="Thorax 2026", definitions=definitions)
    size = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with listening(desk) as base, fresh_page(browser, silent=True, **size) as phone:
        sit_down(phone, f"{base}/?token={TOKEN}", "Anna")
        assert phone.inner_text("#count") == "0 von 6"
        assert phone.inner_text("button[data-reply='bad quality']") == "schlechte Qualität"
        assert phone.is_hidden("#differ")
        press(phone, "1")
        press(phone, "c")
        wait_ready(phone)
        assert "„normal“ und „pneumonia“" in phone.inner_text("#differ")
        phone.tap("#guide-open")
        phone.wait_for_function("() => [...document.querySelectorAll('#guide img')].every((one) => one.naturalWidth)")
        assert phone.locator("#guide-entries h3").all_inner_texts() == ["normal", "nicht zu beurteilen"]
        assert phone.locator("#guide img").first.get_attribute("alt") == "Beispiel für normal"
        assert phone.evaluate("document.documentElement.scrollWidth") == 390
        wait_sent(phone)
    assert [(answer["reply"]) for answer in desk.answers] == ["normal", "cannot tell"]
