"""The notebooks run from top to bottom in a new folder, without a warning."""

import nbformat
import pytest

from pipeline.contracts import config_file
from tests.support import tiny, tiny_backbone
from tests.support.notebooks import EXAMPLES, run_here

SIZE_PX = 96  # of the phantoms; to draw them in full takes longer than all that is done with them
NUM_PATIENTS = 40  # enough that every cell has something to show
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def texts(notebook):
    """What the code cells print, without pictures, times and the numbers of cells."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return "\n".join(shown)


@pytest.fixture
def quick(monkeypatch):
    """What the tests' own runs leave out or make small; no notebook shows it."""
    load, small = config_file.load, dict(map(config_file.parse_override, tiny.FAST[1::2]))
    monkeypatch.setattr(config_file, "load", lambda path=None, overrides=None: load(path, small | (overrides or {})))
    tiny_backbone.weights(tiny.WEIGHTS.parent)
    with tiny.small():
        yield


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, quick, tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    run_here(path, NUM_PATIENTS, SIZE_PX)
    assert list(map(str, recwarn)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_executed_and_name_no_machine(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 3 and all(cell.execution_count for cell in cells)
    assert "/home/" not in texts(notebook) and "/tmp/" not in texts(notebook)
