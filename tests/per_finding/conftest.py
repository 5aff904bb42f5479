"""One pool of independent findings, a finished run and one half read; tests copy a run before they change it."""

import pytest

from tests.support.several_findings import NUM, READ, SEVERAL, answered, number_of, reading_of, scan, shows
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


@pytest.fixture(scope="session")
def blank(pool, tmp_path_factory):
    """The pool without a label."""
    rows = [f"{pool / f's{i:03d}.png'},p{i // 2},," for i in range(NUM)]
    path = tmp_path_factory.mktemp("blank") / "blank.csv"
    path.write_text("image_path,patient_id,effusion,mass\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def begun(blank, tmp_path_factory):
    """A run of which Lee has read the first queue, as `reading_of` tells; it waits for the second."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    first = call("run", *READ, "--pool", blank, "--out", folder)
    assert first.code == 3, first.err
    number = number_of(folder)
    filled, _ = answered(folder.parent, folder, lambda image_id: reading_of(number[image_id]))
    assert call("labels", "import", folder, filled, "--annotator", "Lee").code == 0
    second = call("run", *READ, "--out", folder, "--resume")
    assert second.code == 3, second.err
    return folder
