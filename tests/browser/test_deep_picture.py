"""A scan of 16 bits at the labelling page: every grey value has its part in a narrow window."""

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import TOKEN, fresh_page, listening, sit_down
from tests.support.fake_page_session import FakeDesk, image_id

FIRST, NUM_GREYS = 32128, 1280  # around the middle; five or six greys of 8 bits

PIXELS = """() => {
  const canvas = document.querySelector('#view canvas.scan');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return [...data].filter((_, i) => i % 4 === 0);
}"""


@pytest.fixture
def page(browser):
    with fresh_page(browser) as opened:
        yield opened


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "images").mkdir()
    ramp_HW = np.tile(np.arange(FIRST, FIRST + NUM_GREYS, dtype=np.uint16), (320, 1))
    noisy_HW = np.random.default_rng(0).integers(0, 65536, (64, 48), dtype=np.uint16)  # every filter of PNG
    for i, picture_HW in enumerate((ramp_HW, noisy_HW)):
        Image.fromarray(picture_HW).save(tmp_path / "images" / f"{image_id(i)}.png")
    Image.fromarray((noisy_HW >> 8).astype(np.uint8)).save(tmp_path / "images" / f"{image_id(2)}.png")
    return FakeDesk(tmp_path, 3)


def test_window_and_level_work_on_the_depth_of_the_file(page, desk):
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        before = np.array(page.evaluate(PIXELS))
        assert 4 <= len(np.unique(before)) <= 7
        page.mouse.move(700, 400)
        page.mouse.down()
        page.mouse.move(20, 400, steps=4)
        page.mouse.up()
        page.mouse.move(700, 400)
        page.mouse.down()
        page.mouse.move(20, 400, steps=4)  # the narrowest window
        page.mouse.up()
        page.wait_for_selector("#view[data-width='0.020']")
        shown = np.array(page.evaluate(PIXELS)).reshape(320, NUM_GREYS)[0]
        want = np.clip(((FIRST + np.arange(NUM_GREYS)) / 65535 - 0.5) / 0.02 + 0.5, 0, 1) * 255
        assert np.abs(shown - want).max() <= 1 and len(np.unique(shown)) > 200
        page.keyboard.press("i")
        page.wait_for_selector("#view[data-inverted=true]")
        turned = np.array(page.evaluate(PIXELS)).reshape(320, NUM_GREYS)[0]
        assert np.abs(turned - (255 - want)).max() <= 1


def test_the_picture_is_what_the_file_holds_and_a_flat_one_stays_an_image(page, desk):
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.keyboard.press("1")
        page.wait_for_selector(f"body[data-scan='{image_id(1)}'][data-ready=true]")
        values = np.asarray(Image.open(desk.folder / "images" / f"{image_id(1)}.png"))
        shown = np.array(page.evaluate(PIXELS)).reshape(values.shape)
        assert np.abs(shown - values / 257).max() <= 1
        page.keyboard.press("1")
        page.wait_for_selector(f"body[data-scan='{image_id(2)}'][data-ready=true]")
        assert page.locator("#view img.scan").count() == 1 and page.locator("#view canvas.scan").count() == 0


def test_one_to_one_turn_and_magnifier(page, desk):
    with listening(desk) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        page.keyboard.press("o")
        page.wait_for_function("() => document.getElementById('readout').textContent.includes('1:1')")
        width = page.locator("#view canvas.scan").bounding_box()["width"]
        assert width == pytest.approx(NUM_GREYS, abs=1)
        page.keyboard.press("t")
        page.wait_for_selector("#view[data-turns='1']")
        box, view = page.locator("#view canvas.scan").bounding_box(), page.locator("#view").bounding_box()
        assert box["height"] / box["width"] == pytest.approx(NUM_GREYS / 320, rel=0.01)
        assert box["height"] == pytest.approx(view["height"], abs=1)
        page.mouse.move(view["x"] + view["width"] / 2, view["y"] + view["height"] / 2)
        assert page.is_hidden("#view .lens")
        page.keyboard.press("m")
        page.mouse.move(view["x"] + view["width"] / 2 + 5, view["y"] + view["height"] / 2)
        page.wait_for_selector("#view .lens", state="visible")
        page.keyboard.press("m")
        page.wait_for_selector("#view .lens", state="hidden")
        page.keyboard.press("r")
        page.wait_for_selector("#view[data-turns='0'][data-zoom='1.000']")
