"""Words for people: why a queue asked for scans, and where a path may go on in a new line."""

from pipeline.contracts.tables import QUEUE
from pipeline.pages import wording
from pipeline.pages.template_env import breakable, slices_in_order


def test_every_kind_of_a_queue_has_words():
    ((_, kinds),) = QUEUE.values
    assert set(wording.QUEUE_KINDS) == set(kinds)
    assert not {wording.queue_kind(kind) for kind in kinds} & {"representative", "uniform", "recheck", "report-check"}


def test_kinds_are_counted_in_one_order_and_empty_ones_left_out():
    text = wording.by_kind({"holdout": 1048, "uniform": 4, "dispute": 0, "representative": 16})
    assert text == "16 typical, 4 at random, 1,048 of the holdout"
    assert wording.by_kind({}) == "" and wording.by_kind({"of a later version": 2}) == "2 of a later version"


def test_a_path_breaks_behind_its_signs_and_is_escaped():
    assert breakable("scans/of_the-north.csv") == "scans/<wbr>of_<wbr>the-<wbr>north.<wbr>csv"
    assert breakable("a/<b>&") == "a/&lt;b&gt;&amp;"


def test_slices_stand_by_size_and_then_by_name():
    rows = [{"by": by, "slice": name} for by, name in (("view", "PA"), ("cluster", "10"), ("cluster", "2"))]
    ages = [{"by": "age_band", "slice": name} for name in ("65+", "unknown", "2-17", "18-39")]
    text = [row["slice"] for row in slices_in_order([*rows, *ages])]
    assert text == ["PA", "2", "10", "2-17", "18-39", "65+", "unknown"]
