import numpy as np
import pytest
from PIL import Image

from pipeline.pool import reading
from pipeline.pool.burned_in.note import SEEN, TOLD, noted, reason_in
from pipeline.pool.burned_in.text_lines import has_text
from tests.support.written_on import written_on


@pytest.fixture(scope="module")
def film():
    """A smooth picture with the grain of a film, bright in the middle."""
    y_HW, x_HW = np.mgrid[-1:1:240j, -1:1:240j]
    grain_HW = np.random.default_rng(0).normal(0, 3, (240, 240))
    return Image.fromarray((40 + 140 * np.exp(-2 * (x_HW**2 + y_HW**2)) + grain_HW).astype(np.uint8))


@pytest.mark.parametrize("text", ["MUELLER, ANNA", "12.03.1956 F", "Nguyen Van An", "ID 4471902"])
@pytest.mark.parametrize(("size_px", "grey"), [(12, 255), (20, 110), (14, 0)])
def test_a_line_of_text_is_seen(film, text, size_px, grey):
    assert has_text(written_on(film, text, size_px, grey, (8, 210)))


def test_text_is_seen_in_a_large_picture(film):
    large = film.resize((2400, 2400), Image.Resampling.BICUBIC)
    assert not has_text(large) and has_text(written_on(large, "MUELLER, ANNA", 40, 230, (1500, 2300)))


@pytest.mark.parametrize("marker", ["", "L", "R", "AP", "PA"])
def test_a_side_and_a_projection_are_no_line_of_text(film, marker):
    assert not has_text(written_on(film, marker, 22, 250))


def test_noise_stripes_and_steps_are_no_text():
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (200, 200), dtype=np.uint8)
    stripes = np.tile(np.repeat(np.array([30, 200], np.uint8), 6), (200, 17))
    assert not has_text(Image.fromarray(noise)) and not has_text(Image.fromarray(stripes))


def test_what_a_file_is_read_for_says_so(film, tmp_path):
    options = reading.ReadingOptions(10_000_000)
    notes = []
    for name, picture in {"plain": film, "written": written_on(film, "MUELLER, ANNA", 16, 255)}.items():
        picture.save(tmp_path / f"{name}.png")
        question = {**vars(options)}
        notes.append(reading.answer(question, (tmp_path / f"{name}.png").read_bytes())[0]["note"])
    assert notes == [None, SEEN]


def test_the_note_tells_what_was_found_by_whom():
    assert (reason_in(None), reason_in("another note"), reason_in(noted(None))) == (None, None, SEEN)
    assert reason_in(noted(TOLD)) == TOLD and reason_in(noted("another note")) == SEEN
