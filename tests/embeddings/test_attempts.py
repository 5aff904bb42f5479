"""A scan whose process died is found by the next try, alone; two deaths are enough."""

from embeddings.attempts import MAX_DEATHS, Attempts

SCANS = ("a", "b", "c", "d")


def test_who_was_begun_and_not_ended_is_found_by_the_next_try(tmp_path):
    first = Attempts(tmp_path, SCANS)  # never left: its process dies
    first.begin(["a", "b"])
    first.end(["a", "b"])
    first.begin(["c", "d"])
    second = Attempts(tmp_path, SCANS)
    assert [second.deaths(scan) for scan in SCANS] == [0, 0, 1, 1]
    with second:
        pass
    assert not list(tmp_path.iterdir())


def test_two_deaths_count_up_and_an_innocent_is_cleared(tmp_path):
    Attempts(tmp_path, SCANS).begin(["c", "d"])
    second = Attempts(tmp_path, SCANS).__enter__()
    second.begin(["c"])
    second.end(["c"])
    second.begin(["d"])
    third = Attempts(tmp_path, SCANS)
    assert third.deaths("c") == 0 and third.deaths("d") == MAX_DEATHS


def test_a_try_that_dies_before_it_begins_forgets_nothing(tmp_path):
    Attempts(tmp_path, SCANS).begin(["c"])
    Attempts(tmp_path, SCANS).__enter__()
    assert Attempts(tmp_path, SCANS).deaths("c") == 1


def test_shards_do_not_share_marks_and_a_damaged_file_is_none(tmp_path):
    Attempts(tmp_path, SCANS).begin(["c"])
    assert Attempts(tmp_path, SCANS[1:]).deaths("c") == 0
    [path] = tmp_path.iterdir()
    path.write_text('{"begun": [')
    assert Attempts(tmp_path, SCANS).deaths("c") == 0
