"""The real tables in torchxrayvision's wheel: what we read of them, and what its own loaders do."""

import pytest

from tests.support import public_sets

pytestmark = pytest.mark.skipif(public_sets.DATA is None, reason=public_sets.MISSING)
NUM_ROWS = 3000  # of each table; `python -m tests.bench sets` compares all of them


@pytest.fixture(params=[name for name in public_sets.TABLES if name not in ("vinbig", "openi", "padchest")])
def plain(request, tmp_path):
    """A set whose labels mean the same to both, by name."""
    folder = public_sets.folder_with(request.param, tmp_path, NUM_ROWS)
    return request.param, public_sets.ours(request.param, folder), public_sets.peers(request.param, tmp_path)


def test_the_same_labels_for_the_same_rows(plain):
    name, whole, peer = plain
    counts = public_sets.compared(name, whole, peer)
    assert counts["cells"] >= 2900 and counts["same"] == counts["cells"]
    assert set(whole.file_N.to_pylist()) == set(peer.file_N)
    if peer.patient_N is not None and "patient_id" in whole.about:
        assert len(set(whole.about["patient_id"].to_pylist())) == len(set(peer.patient_N))


def test_padchest_differs_where_the_report_says_nothing_new(tmp_path):
    whole = public_sets.ours("padchest", public_sets.folder_with("padchest", tmp_path, NUM_ROWS))
    peer = public_sets.peers("padchest", tmp_path)
    counts = public_sets.compared("padchest", whole, peer)
    assert counts["same"] + counts["unknown here"] == counts["cells"] > 50_000
    assert 0 < counts["unknown here"] < 0.15 * counts["cells"]
    assert not counts["present here"] + counts["present there"]


def test_vinbig_readers_are_kept_where_the_peer_takes_any_of_them(tmp_path):
    whole = public_sets.ours("vinbig", public_sets.folder_with("vinbig", tmp_path))
    peer = public_sets.peers("vinbig", tmp_path)
    any_NC = public_sets.of_any_reader(whole)
    assert public_sets.compared("vinbig", whole, peer, any_NC)["same"] == len(peer.file_N) * len(whole.findings)
    assert len(whole.readings.scan_R) == 3 * len(whole.file_N) == 45_000
    majority = public_sets.compared("vinbig", whole, peer)
    assert majority["present there"] > 0 and not majority["present here"]


def test_open_i_has_the_headings_that_people_gave(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    public_sets.cut_reports(folder / "NLMCXR_reports.tgz", 150)
    whole = public_sets.ours("openi", public_sets.SetFolder(str(folder), ("NLMCXR_reports.tgz",)))
    assert len(whole.file_N) > 250 and len(set(whole.about["patient_id"].to_pylist())) <= 150
    known = (whole.present_NC >= 0).all(axis=1)
    assert known.mean() > 0.9 and 0 < (whole.present_NC[known] == 1).mean() < 0.1
