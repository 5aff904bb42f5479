import pytest

from embeddings.decoding import grey_range


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(0, 8), (255, 8), (256, 10), (1023, 10), (4095, 12), (4096, 14), (16383, 14), (20000, 15), (65535, 16)],
)
def test_the_narrowest_usual_width_that_holds_a_value(largest, bits):
    assert grey_range.bits_of(largest, 16) == bits
    assert largest <= grey_range.white_of_bits(bits)


def test_no_width_is_wider_than_its_container():
    assert grey_range.bits_of(5000, 13) == 13


def test_a_few_dark_scans_are_read_like_the_others():
    assert grey_range.decide({12: 95, 10: 5}) == {12: 12, 10: 12}


def test_two_kinds_of_files_keep_their_own_white():
    assert grey_range.decide({12: 50, 10: 50}) == {12: 12, 10: 10}


def test_a_sixteenth_of_the_range_is_no_dark_scan():
    assert grey_range.decide({16: 1000, 12: 1}) == {16: 16, 12: 12}


@pytest.mark.parametrize(
    ("whites", "bits", "white"),
    [((65535,), 12, 4095), ((65535,), 14, 65535), ((4095,), 10, 4095), ((1023, 65535), 12, 4095), ((), 12, 4095)],
)
def test_nor_is_it_among_the_whites_of_another_pool(whites, bits, white):
    assert grey_range.among(whites, bits) == white


def test_nothing_to_decide():
    assert grey_range.decide({}) == {}
