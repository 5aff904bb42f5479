import numpy as np
from PIL import Image

from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool.burned_in.scans import is_seen_in, kept_back
from tests.support import dicom_files
from tests.support.audit_pools import context, many
from tests.support.written_on import say_written_on, written_on


def test_scans_with_text_are_kept_back_unless_allowed(tmp_path):
    context(tmp_path, many(10))
    ids = [f"{i:016x}" for i in range(10)]
    assert kept_back(tmp_path, PoolConfig(uri="x")) == frozenset()
    say_written_on(tmp_path, ids[:3])
    assert kept_back(tmp_path, PoolConfig(uri="x")) == set(ids[:3])
    assert kept_back(tmp_path, PoolConfig(uri="x"), ids[2:]) == {ids[2]}
    assert kept_back(tmp_path, PoolConfig(uri="x", allow_burned_in_text=True)) == frozenset()


def test_a_scan_that_no_manifest_knows_is_looked_at(tmp_path):
    plain = Image.new("L", (240, 240), 60)
    for name, picture in {"plain": plain, "written": written_on(plain, "MUELLER, ANNA", 20, 230)}.items():
        picture.save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    seen = [is_seen_in(str(tmp_path / f"{name}.png"), 10**6) for name in ("plain", "written", "broken")]
    assert seen == [False, True, False]
    assert not is_seen_in(str(tmp_path / "written.png"), 100)


def test_the_tags_of_a_scan_that_no_manifest_knows_are_believed(tmp_path):
    values = np.full((240, 240), 60, np.uint16)
    for answer in ("YES", "NO"):
        content = dicom_files.file_bytes(values, BurnedInAnnotation=answer)
        (tmp_path / f"{answer}.dcm").write_bytes(content)
    assert [is_seen_in(str(tmp_path / f"{answer}.dcm"), 10**6) for answer in ("YES", "NO")] == [True, False]
