"""The labelling page in a real browser: keys, views, and answers that survive whatever happens."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from pipeline.contracts.answers import REMARKS
from tests.support.browser import (
    TOKEN,
    Served,
    fresh_page,
    listening,
    press,
    sit_down,
    wait_counted,
    wait_ready,
    wait_sent,
)
from tests.support.fake_page_session import FINDINGS, FakeDesk, draw, image_id

NUM = 26
KEYS = {
    "1": "normal",
    "2": "pneumonia",
    "3": "effusion",
    "4": "nodule",
    "c": REMARKS[0],
    "b": REMARKS[1],
    "n": REMARKS[2],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder / "images", NUM)
    return folder


@pytest.fixture
def folder(tmp_path, pictures):
    (tmp_path / "images").symlink_to(pictures / "images")
    return tmp_path


@pytest.fixture
def page(browser):
    with fresh_page(browser) as opened:
        yield opened


@pytest.fixture
def unhurried(browser):
    """A page that waits as long as it does for people."""
    with fresh_page(browser, hurried=False) as opened:
        yield opened


def kept(desk):
    return {a["image_id"]: (a["reply"], a["certainty"]) for a in desk.answers}


def test_a_queue_through_a_reload_an_undo_and_a_killed_server(page, folder):
    rng, given = random.Random(0), {}

    def label(num):
        for _ in range(num):
            key, unsure = rng.choice(list(KEYS)), rng.random() < 0.2
            reply = KEYS[key]
            certainty = "unsure" if unsure else "sure" if reply in FINDINGS else None
            given[press(page, f"Shift+{key}" if unsure else key)] = (reply, certainty)

    with Served(folder, NUM) as served:
        sit_down(page, served.link, "Dr. Anna Meyer")
        assert TOKEN not in page.url
        label(8)
        page.reload()
        label(5)
        page.keyboard.press("z")
        page.wait_for_selector("#last:text-is('Taken back')")
        label(3)  # the first of them answers that scan anew
        wait_counted(page, 15)
        served.kill()
        label(3)
        page.wait_for_selector("#banner-text:has-text('Not saved yet: 3 answers wait on this device')")
        page.keyboard.press("Backspace")
        label(2)
        served.start(token="another-start")
        page.wait_for_selector("#banner-text:has-text('Open the link that it printed')", timeout=20000)
        page.goto(served.link)
        label(NUM - 19)
        page.wait_for_selector("body[data-state=done]")
        page.wait_for_selector("#message-title:has-text('All done')")  # not before the last answer is saved
        wait_counted(page, NUM)
        desk = FakeDesk(folder, NUM)
    assert len(given) == NUM == len(desk.answers)
    assert kept(desk) == given
    assert {a["annotator"] for a in desk.answers} == {"Dr. Anna Meyer"}
    assert all(0 < a["seconds"] < 60 for a in desk.answers)


def test_one_press_answers_one_scan(unhurried, folder):
    page = unhurried
    desk = FakeDesk(folder, 8)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        scan = page.get_attribute("body", "data-scan")
        page.evaluate(
            """() => {
              for (const repeat of [false, false, true, true]) {
                const press = { key: '2', code: 'Digit2', repeat, bubbles: true };
                document.body.dispatchEvent(new KeyboardEvent('keydown', press));
              }
            }"""
        )
        page.wait_for_function("scan => document.body.dataset.scan !== scan", arg=scan)
        page.keyboard.press("1")  # 20 ms after the first: a bouncing key
        second = wait_ready(page)
        page.keyboard.down("1")
        for _ in range(5):
            page.wait_for_timeout(60)
            page.keyboard.down("1")  # held: the browser repeats it
        page.keyboard.up("1")
        third = wait_ready(page)
        page.focus("button[data-reply=nodule]")
        for _ in range(8):
            page.keyboard.down("Enter")
            page.wait_for_timeout(60)
        page.keyboard.up("Enter")
        wait_ready(page)
        wait_counted(page, 3)
        assert kept(desk) == {scan: ("pneumonia", "sure"), second: ("normal", "sure"), third: ("nodule", "sure")}
        assert all(0.2 <= a["seconds"] < 60 for a in desk.answers)  # nobody reads a scan faster


def test_a_full_disk_and_a_refused_answer_are_told_and_reading_goes_on(page, folder):
    desk = FakeDesk(folder, 10)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        desk.full = True
        first = press(page, "1")
        page.wait_for_selector("#banner-text:has-text('No space left on device')")
        assert "1 answer waits on this device" in page.inner_text("#banner")
        wait_ready(page)
        desk.full = False
        wait_counted(page, 1)
        gone = wait_ready(page)
        desk.ids.remove(gone)  # the queue changed under her hands
        press(page, "2")
        page.wait_for_selector("#banner-text:has-text('this round does not ask for that scan')")
        third = press(page, "3")
        for scan in (third, first):  # what was refused cannot be taken back
            wait_ready(page)
            page.keyboard.press("z")
            page.wait_for_selector(f"body[data-scan='{scan}']")
        assert [press(page, "1"), press(page, "4")] == [first, third]
        page.click("#dismiss")
        wait_counted(page, 2)
        assert kept(desk) == {first: ("normal", "sure"), third: ("nodule", "sure")}


def test_doubt_remarks_mouse_and_change_of_annotator(page, folder):
    desk = FakeDesk(folder, 10)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "  Anna   Meyer ")
        assert page.inner_text("#annotator") == "Anna Meyer"
        page.keyboard.press("u")
        assert page.get_attribute("#unsure", "aria-pressed") == "true"
        scans = [
            press(page, "2"),
            press(page, "Shift+Digit3"),
            press(page, "c"),
            press(page, "Shift+b"),
            press(page, "Numpad4"),
        ]
        scans.append(wait_ready(page))
        page.click("button[data-reply='not a chest X-ray']")
        wait_counted(page, 6)
        assert list(kept(desk).values()) == [
            ("pneumonia", "unsure"),
            ("effusion", "unsure"),
            ("cannot tell", None),
            ("bad quality", "unsure"),
            ("nodule", "sure"),
            ("not a chest X-ray", None),
        ]
        assert list(kept(desk)) == scans == [image_id(i) for i in range(6)]
        page.click("#change")
        page.fill("#name", "<b>Ben</b>")
        page.click("#enter-go")
        page.wait_for_selector('#enter-error:has-text("is no annotator\'s name")')
        page.fill("#name", "Ben")
        page.click("#enter-go")
        page.wait_for_selector("#count:text-is('0 of 10')")
        assert wait_ready(page) == image_id(0)
        press(page, "1")
        wait_counted(page, 1)
        assert [a["annotator"] for a in desk.answers] == ["Anna Meyer"] * 6 + ["Ben"]


def grey(page, x, y):
    """Brightness on the screen, 0 to 255."""
    shot = Image.open(io.BytesIO(page.screenshot())).convert("L")
    return shot.getpixel((x, y))


def test_window_level_zoom_and_invert(page, tmp_path):
    (tmp_path / "images").mkdir()
    ramp_HW = np.tile(np.repeat(np.arange(0, 256, 32, dtype=np.uint8), 32), (256, 1))
    Image.fromarray(ramp_HW).save(tmp_path / "images" / f"{image_id(0)}.png")
    with listening(FakeDesk(tmp_path, 1)) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        box = page.locator("#view").bounding_box()
        x0, side = box["x"] + (box["width"] - 800) / 2, 800
        columns = [int(x0 + side * (i + 0.5) / 8) for i in range(8)]
        view = lambda name: float(page.get_attribute("#view", f"data-{name}"))  # noqa: E731
        shown = lambda: [grey(page, x, 400) for x in columns]  # noqa: E731
        assert shown() == [0, 32, 64, 96, 128, 160, 192, 224]
        page.keyboard.press("i")
        page.wait_for_selector("#view[data-inverted=true]")
        assert np.allclose(shown(), 255 - np.arange(0, 256, 32), atol=1)
        page.keyboard.press("r")
        page.wait_for_selector("#view[data-inverted=false]")
        page.mouse.move(500, 400)
        page.mouse.down()
        page.mouse.move(320, 360, steps=4)  # left: a narrower window; up: a lower level
        page.mouse.up()
        page.wait_for_function("() => document.getElementById('view').dataset.width < 1")
        assert view("level") < 0.5
        expected = np.clip((np.arange(0, 256, 32) / 255 - view("level")) / view("width") + 0.5, 0, 1) * 255
        assert np.allclose(shown(), expected, atol=2) and np.ptp(expected) > 200
        page.keyboard.press("r")
        page.mouse.move(columns[6], 400)
        page.mouse.wheel(0, -400)
        page.wait_for_function("() => document.getElementById('view').dataset.zoom > 1.5")
        assert grey(page, columns[6], 400) == 192  # what is under the pointer stays there
        before = grey(page, 200, 400)
        page.mouse.down(button="right")
        page.mouse.move(columns[6] + 200, 400, steps=3)
        page.mouse.up(button="right")
        page.wait_for_timeout(60)
        assert grey(page, columns[6], 400) < 192 and grey(page, 200, 400) <= before
        assert view("width") == 1
        page.mouse.dblclick(300, 300)
        page.wait_for_selector("#view[data-zoom='1.000']")
        assert shown() == [0, 32, 64, 96, 128, 160, 192, 224]


def test_other_scans_and_reasons_on_demand(page, folder):
    with listening(FakeDesk(folder, 8, reasons=True)) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        assert page.is_hidden("#prior-open")
        page.keyboard.press("w")
        assert page.inner_text("#why-text") == "Uniform slice"
        press(page, "1")
        assert page.is_hidden("#why-text")
        press(page, "1")
        wait_ready(page)
        page.keyboard.press("p")
        page.wait_for_selector("#prior .scan")
        assert page.get_attribute("#prior .scan", "src") == f"/image/{image_id(0)}"
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(f"#prior .scan[src='/image/{image_id(1)}']")
        assert page.get_attribute("#view .scan", "src") == f"/image/{image_id(2)}"
        press(page, "2")
        assert page.is_hidden("#prior")
    with listening(FakeDesk(folder, 8)) as base:  # blind
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.keyboard.press("w")
        assert page.is_hidden("#why") and page.is_hidden("#why-text")


def test_help_lists_every_key_and_takes_none_of_them(page, folder):
    desk = FakeDesk(folder, 4, findings=("<img src=x onerror=alert(1)>", "b"))
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.keyboard.press("?")
        text = page.inner_text("#help")
        assert "<img src=x onerror=alert(1)>" in text and all(remark in text for remark in REMARKS)
        keys = page.locator("#help kbd").all_inner_texts()
        assert keys == [*"12CBNUZAIOTMRLFVEKPW?"]
        page.keyboard.press("1")
        page.keyboard.press("Escape")
        page.wait_for_selector("#help", state="hidden")
        press(page, "1")
        wait_counted(page, 1)
        assert list(kept(desk).values()) == [("<img src=x onerror=alert(1)>", "sure")]
        assert page.locator("img[src=x]").count() == 0


def test_one_window_at_a_time_shows_the_list(page, folder):
    desk = FakeDesk(folder, 8)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        other = page.context.new_page()
        other.goto(f"{base}/?token={TOKEN}")
        wait_ready(other)
        page.wait_for_selector("body[data-state=aside]")
        page.keyboard.press("1")
        scan = press(other, "2")
        page.click("text=Read here")
        assert wait_ready(page) == image_id(1)
        wait_counted(page, 1)
        assert kept(desk) == {scan: ("pneumonia", "sure")}


def test_a_picture_that_is_missing_is_told_and_can_be_remarked(page, folder):
    desk = FakeDesk(folder, 3)
    desk.ids[1] = image_id(500)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        press(page, "1")
        page.wait_for_selector("#message-title:text-is('This scan cannot be shown')")
        assert press(page, "b") == image_id(500)
        press(page, "1")
        wait_counted(page, 3)
        assert kept(desk)[image_id(500)] == ("bad quality", None)


def pinch(page):
    """Two fingers on the scan move apart."""
    touch = page.context.new_cdp_session(page)
    fingers = lambda apart: [{"x": 195 - apart, "y": 250, "id": 0}, {"x": 195 + apart, "y": 250, "id": 1}]  # noqa: E731
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": fingers(50)})
    for apart in (60, 75, 90, 100):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": fingers(apart)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_phone(browser, folder):
    desk = FakeDesk(folder, 3)
    size = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with listening(desk) as base, fresh_page(browser, **size) as phone:
        phone.goto(f"{base}/?token={TOKEN}")
        phone.fill("#name", "Anna")
        phone.tap("#enter-go")
        for reply in ("effusion", "cannot tell", "normal"):
            scan = wait_ready(phone)
            scan_box, button = phone.locator("#stage").bounding_box(), phone.locator(f"button[data-reply='{reply}']")
            assert scan_box["width"] == 390 and scan_box["height"] >= 380
            assert button.bounding_box()["height"] >= 44
            if reply == "effusion":
                pinch(phone)
                phone.wait_for_function("() => document.getElementById('view').dataset.zoom > 1.4")
                assert phone.get_attribute("#view", "data-width") == "1.000"
            button.tap()
            phone.wait_for_function("scan => document.body.dataset.scan !== scan", arg=scan)
        wait_counted(phone, 3)
        assert phone.evaluate("document.documentElement.scrollWidth") == 390
        assert [reply for reply, _ in kept(desk).values()] == ["effusion", "cannot tell", "normal"]


def test_thousands_of_scans_stay_quick(page, folder):
    """The page holds a few scans at a time, whatever the queue's length."""
    desk = FakeDesk(folder, 5000)
    desk.picture = lambda i, given=desk.picture: given(image_id((int(i, 16) - 1) % NUM))
    asked = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        for _ in range(5):
            press(page, "1")
        wait_ready(page)
        wait_counted(page, 5)
        assert page.inner_text("#count") == "5 of 5000"
        assert len([name for name in asked if len(name) == 16]) < 20


def test_seconds_count_neither_hidden_time_nor_a_long_pause(page, folder):
    with listening(FakeDesk(folder, 2)) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        spent = page.evaluate(
            """async () => {
              const { Clock } = await import('/static/clock.js');
              let now = 0, hidden = false;
              Object.defineProperty(document, 'hidden', { get: () => hidden });
              const clock = new Clock(() => now), out = [];
              const at = (seconds, kind) => { now = seconds * 1000; document.dispatchEvent(new Event(kind)); };
              const turn = (seconds, value) => { hidden = value; at(seconds, 'visibilitychange'); };
              clock.start(); now = 4000; out.push(clock.stop());
              now = 10000; clock.start();
              at(15, 'pointermove'); at(415, 'pointerdown'); at(417, 'wheel'); out.push(clock.stop());
              clock.start(); turn(420, true); at(450, 'pointermove');
              turn(480, false); now = 482000; out.push(clock.stop());
              at(500, 'pointermove'); clock.start(); now = 501000; out.push(clock.stop());
              return out;
            }"""
        )
        assert spent == [4, 7, 5, 1]


PUT = "async ([owner, item]) => new (await import('/static/outbox.js')).Outbox(owner).put(item)"


def waiting_item(i, reply, key):
    """An answer as it waits in Anna's browser."""
    body = {"annotator": "Anna", "image_id": image_id(i), "reply": reply, "certainty": None, "seconds": 1, "key": key}
    return {"path": "answer", "task": {"image_id": image_id(i), "number": i + 1}, "body": body}


def test_an_answer_whose_key_is_known_for_another_reply_is_told(page, folder):
    desk = FakeDesk(folder, 6)
    desk.answer("Anna", image_id(0), "normal", "sure", 1.0, "one-key-twice")
    with listening(desk, name="run-1") as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.evaluate(PUT, ["run-1|Anna", waiting_item(1, "nodule", "one-key-twice")])
        page.reload()
        page.wait_for_selector("#banner-text:has-text('1 answer not taken; the last: nodule, scan 2.')")
        assert "was given before, and said something else" in page.inner_text("#banner-text")
        assert wait_ready(page) == image_id(1)  # it is asked again
    assert kept(desk) == {image_id(0): ("normal", "sure")}


def test_answers_that_wait_outlive_their_round_but_not_their_run(page, folder):
    desk = FakeDesk(folder, 2)
    with listening(desk, name="run-1") as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.evaluate(PUT, ["run-1|Anna", waiting_item(0, "nodule", "given-in-round-2")])
        desk.title = "Round 3"
        page.goto(base)
        wait_counted(page, 1)
    assert kept(desk) == {image_id(0): ("nodule", None)}


def test_answers_of_another_run_are_left_alone(page, folder):
    desk = FakeDesk(folder, 2)
    item = waiting_item(0, "nodule", "key-of-another-run")
    with listening(desk, name="run-2") as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.evaluate(PUT, ["run-1|Anna", item])
        page.evaluate(PUT, ["run-2|Ben", item])
        page.reload()
        press(page, "1")
        page.wait_for_selector("#count:text-is('1 of 2')")
        wait_sent(page, num_left=2)
    assert kept(desk) == {image_id(0): ("normal", "sure")}


def test_without_storage_and_secure_context_answers_still_arrive_and_the_risk_is_told(page, folder):
    desk = FakeDesk(folder, 3)
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked'); } });"
        "crypto.randomUUID = undefined; Object.defineProperty(navigator, 'locks', { value: undefined });"
    )
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        press(page, "1")
        page.wait_for_selector("#count:text-is('1 of 3')")
        desk.full = True
        press(page, "2")
        page.wait_for_selector("#banner-text:has-text('leave the page open')")
        desk.full = False
        page.wait_for_selector("#banner", state="hidden")
        assert list(kept(desk).values()) == [("normal", "sure"), ("pneumonia", "sure")]
        assert len({a["key"] for a in desk.answers}) == 2


def test_an_undo_takes_back_the_answer_shown_not_one_of_another_device(page, folder):
    desk = FakeDesk(folder, 12)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        first = press(page, "1")
        wait_counted(page, 1)
        desk.answer("Anna", image_id(11), "nodule", "sure", 1.0, "key-of-the-other-device")
        page.keyboard.press("z")
        page.wait_for_selector("#last:text-is('Taken back')")
        assert press(page, "2") == first
        wait_counted(page, 2)
    assert kept(desk) == {image_id(11): ("nodule", "sure"), first: ("pneumonia", "sure")}
    assert list(desk.undone.values()) == [first]


def test_after_a_reload_an_undo_takes_back_what_the_server_had_last(page, folder):
    desk = FakeDesk(folder, 4)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        scans = [press(page, "1"), press(page, "1")]
        wait_counted(page, 2)
        page.reload()
        wait_ready(page)
        page.keyboard.press("z")
        page.wait_for_selector("#last:text-is('Taken back')")
        assert press(page, "2") == scans[1]
        wait_counted(page, 2)
    assert list(kept(desk).values()) == [("normal", "sure"), ("pneumonia", "sure")]


def test_a_disk_that_is_away_is_waited_for_and_told(page, folder):
    desk = FakeDesk(folder, 12)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        desk.away = True
        page.reload()
        page.wait_for_selector("#message-title:text-is('This scan cannot be loaded just now')")
        lines = page.locator("#message-text p").all_inner_texts()
        assert lines == ["The server cannot read it at the moment.", "Trying again by itself."]
        page.keyboard.press("b")
        assert page.get_attribute("body", "data-ready") == "false"
        desk.away = False
        assert press(page, "2") == image_id(0)
        wait_counted(page, 1)
        assert kept(desk) == {image_id(0): ("pneumonia", "sure")}


def test_a_new_queue_changes_the_title_of_an_open_page(page, folder):
    desk = FakeDesk(folder, 12)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        assert page.inner_text("#title") == "Round 2" and page.title() == "0 of 12 · Round 2"
        desk.title = "Round 3"
        for _ in range(4):
            press(page, "1")
        page.wait_for_selector("#title:text-is('Round 3')")
        page.wait_for_function("() => document.title === '4 of 12 · Round 3'")
        page.reload()
        wait_ready(page)
        assert page.inner_text("#title") == "Round 3"


def test_other_findings_ask_for_the_page_anew(page, folder):
    desk = FakeDesk(folder, 12)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        desk.findings = ("normal", "effusion")
        for _ in range(3):
            press(page, "1")
        page.wait_for_selector("body[data-state=outdated]")
        assert page.inner_text("#message-title") == "The answers to choose from have changed"
        assert page.get_attribute("body", "data-ready") == "false"
        page.keyboard.press("2")
        page.click("text=Load again")
        press(page, "2")
        wait_counted(page, 4)
        assert page.locator("#findings button").count() == 2
    assert [reply for reply, _ in kept(desk).values()] == ["normal"] * 3 + ["effusion"]


def test_a_scan_is_asked_for_once_ahead_of_its_turn_and_kept_by_no_browser(page, folder):
    desk = FakeDesk(folder, 20)
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        for _ in range(8):
            press(page, "1")
        wait_ready(page)
        page.wait_for_function("() => performance.getEntriesByType('resource').length > 20")
        assert sorted(set(desk.looked)) == sorted(desk.looked) and len(desk.looked) > 9
        wait_counted(page, 8)
        page.reload()
        shown = wait_ready(page)
        assert desk.looked.count(shown) == 2
