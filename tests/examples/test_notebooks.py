"""The notebooks run from top to bottom in a new folder, without a warning."""

import re

import nbformat
import pytest

from tests.support.notebooks import EXAMPLES, execute

NUM_PATIENTS = 40  # enough that every cell has something to show
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def texts(notebook):
    """What the code cells print, without pictures, times and the numbers of cells."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return "\n".join(shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    executed = execute(path, tmp_path, NUM_PATIENTS)
    assert re.findall(r"(?m)^(?:.*: )?\w+Warning: .*|^\w+Error: .*", texts(executed)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_executed_and_name_no_machine(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 3 and all(cell.execution_count for cell in cells)
    assert "/home/" not in texts(notebook) and "/tmp/" not in texts(notebook)
