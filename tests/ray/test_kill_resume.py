"""kill -9 of the driver, then --resume: nothing differs, nothing is embedded twice."""

from pathlib import Path

import pytest

from tests.bench import resume

POOL = "phantom:num_patients=110,size_px=96,severity=1.5"
SMALL = ("--set", "preprocess.size_px=64", "--set", "embed.shard_size=16", "--set", "evaluate.num_bootstrap=50")


@pytest.mark.cluster
def test_killed_run_resumes_to_the_same_end(tmp_path: Path) -> None:
    resume.run(POOL, tmp_path / "whole", tmp_path / "cache-whole", *SMALL)
    kills = resume.killed_run(POOL, tmp_path / "killed", tmp_path / "cache-killed", 3, 25.0, *SMALL)
    assert len(kills) == 3
    assert resume.compare(tmp_path / "whole", tmp_path / "killed") == []
    assert resume.repeated_shards(tmp_path / "cache-killed") == 0
    assert len(list((tmp_path / "killed" / "rounds").glob("*/metrics.json"))) == 5
