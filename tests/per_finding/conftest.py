"""One pool and one finished run of independent findings, which tests copy before they change them."""

import pytest

from tests.support.several_findings import NUM, SEVERAL, scan, shows
from tests.support.tiny import call


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """Two scans a patient; of scans 8, 16, … the mass is not known."""
    folder = tmp_path_factory.mktemp("pool")
    rows = ["image_path,patient_id,effusion,mass"]
    for i in range(NUM):
        scan(i).save(folder / f"s{i:03d}.png")
        known = "" if i % 8 == 0 else shows(i)["mass"]
        rows.append(f"s{i:03d}.png,p{i // 2},{shows(i)['effusion']},{known}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def run(pool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = call("run", "--pool", pool, *SEVERAL, "--oracle", "--rounds", 2, "--budget", 16, "--out", folder, "--json")
    assert done.code == 0, done.err
    return folder
