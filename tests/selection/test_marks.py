"""Tags, views and wishes: only ever added to, by whom, bounded, and safe for two at once."""

import json
import threading

import pytest

from pipeline.contracts.errors import InputError, RunDirError
from pipeline.selection import marks
from pipeline.selection.marks import Marks

IDS = [f"{i:016x}" for i in range(6)]


def events(folder):
    return [json.loads(line) for line in (folder / "marks.jsonl").read_text("utf-8").splitlines()]


def test_what_is_taken_back_stays_on_record(tmp_path):
    kept = Marks.open(tmp_path)
    assert kept.tag("Ann", "  odd   hilum ", IDS[:3]) == "odd hilum"
    kept.tag("Ben", "odd hilum", IDS[1:2], give=False)
    kept.wish("Ann", IDS[:2])
    kept.wish("Ben", IDS[1:4])
    kept.wish("Ben", IDS[:1], give=False)
    kept.save_view("Ben", "mine", {"color": "label"})
    again = Marks.open(tmp_path)
    assert again.tags == {"odd hilum": {IDS[0]: "Ann", IDS[2]: "Ann"}}
    assert {i: wish.who for i, wish in again.wishes.items()} == {IDS[1]: "Ann", IDS[2]: "Ben", IDS[3]: "Ben"}
    assert marks.wished_for(tmp_path) == tuple(IDS[1:4])
    assert again.views["mine"].view == {"color": "label"} and again.views["mine"].who == "Ben"
    assert [(e["event"], e["who"]) for e in events(tmp_path)] == [
        ("tag", "Ann"),
        ("tag", "Ben"),
        ("queue", "Ann"),
        ("queue", "Ben"),
        ("queue", "Ben"),
        ("view", "Ben"),
    ]
    assert all(e["time"].endswith("+00:00") for e in events(tmp_path))


def test_a_book_or_an_unseen_letter_is_no_tag_and_a_million_scans_are_no_choice(tmp_path):
    kept = Marks.open(tmp_path)
    for name in ("<script>" * 1250, "", "  ", "a\x00b", "right\u202eleft"):
        with pytest.raises(InputError, match="is no name of a tag"):
            kept.tag("Ann", name, IDS)
    assert kept.tag("Ann", "<script>alert(1)</script>", IDS) == "<script>alert(1)</script>"  # text is text
    for ids in ([], IDS[:1] * (marks.MAX_SCANS + 1)):
        with pytest.raises(InputError, match="marked at once"):
            kept.wish("Ann", ids)
    with pytest.raises(InputError, match="is larger than"):
        kept.save_view("Ann", "big", {"lasso": list(range(20_000))})
    assert len(events(tmp_path)) == 1


def test_two_people_at_once_lose_nothing(tmp_path):
    def mark(who):
        own = Marks.open(tmp_path)
        for number in range(20):
            own.tag(who, f"{who} {number}", IDS[:1])

    threads = [threading.Thread(target=mark, args=(who,)) for who in ("Ann", "Ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Marks.open(tmp_path).tags) == 40


def test_half_a_line_of_a_process_that_died_counts_for_nothing(tmp_path):
    kept = Marks.open(tmp_path)
    kept.wish("Ann", IDS[:1])
    with (tmp_path / "marks.jsonl").open("a") as stream:
        stream.write('{"event": "queue", "give": true, "who": "Be')
    assert marks.wished_for(tmp_path) == (IDS[0],)
    kept.wish("Ann", IDS[1:2])
    assert marks.wished_for(tmp_path) == (IDS[0], IDS[1])
    (tmp_path / "marks.jsonl").write_text("nonsense\n")
    with pytest.raises(RunDirError, match="line 1 is no event"):
        Marks.open(tmp_path)
