"""A scan whose process died is found by the next try, alone; two deaths are enough."""

from concurrent.futures import ThreadPoolExecutor

from embeddings.attempts import MAX_DEATHS, Attempts

SCANS = ("a", "b", "c", "d")


def dies(folder, *steps, scans=SCANS):
    """A process takes steps and dies: its lock is free, its marks stay."""
    attempts = Attempts(folder, scans).__enter__()
    with ThreadPoolExecutor(1) as reader:  # as scans are decoded
        for begun, ended in steps:
            reader.submit(attempts.begin, begun).result()
            attempts.end(ended)
    attempts._held.release()


def deaths(folder, scans=SCANS):
    """What the next try finds, before it dies in turn."""
    with Attempts(folder, scans) as attempts:
        return {scan: attempts.deaths(scan) for scan in scans if attempts.deaths(scan)}


def test_who_was_begun_and_not_ended_is_found_by_the_next_try(tmp_path):
    dies(tmp_path, ("ab", "ab"), ("cd", ""))
    assert deaths(tmp_path) == {"c": 1, "d": 1}
    assert not list(tmp_path.iterdir())  # a try that ends leaves nothing


def test_two_deaths_count_up_and_an_innocent_is_cleared(tmp_path):
    dies(tmp_path, ("cd", ""))
    dies(tmp_path, ("c", "c"), ("d", ""))
    assert deaths(tmp_path) == {"d": MAX_DEATHS}


def test_a_try_that_dies_before_it_begins_forgets_nothing(tmp_path):
    dies(tmp_path, ("c", ""))
    dies(tmp_path)
    assert deaths(tmp_path) == {"c": 1}


def test_a_scan_that_another_process_is_at_work_on_has_killed_nobody(tmp_path):
    with Attempts(tmp_path, SCANS) as other:
        other.begin("ab")
        with Attempts(tmp_path, SCANS) as attempts:
            attempts.begin("ab")
            assert attempts.deaths("a") == 0
    assert not list(tmp_path.iterdir())


def test_shards_do_not_share_marks_and_a_damaged_file_is_none(tmp_path):
    dies(tmp_path, ("c", ""))
    assert deaths(tmp_path, SCANS[1:]) == {}
    [path] = tmp_path.glob("begun-*.json")
    path.write_text('{"begun": [')
    assert deaths(tmp_path) == {}
