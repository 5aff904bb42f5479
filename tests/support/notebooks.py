"""Runs the notebooks in `examples/`; `python -m tests.support.notebooks` writes their outputs into them again."""

import os
import re
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat
from IPython.core.interactiveshell import InteractiveShell

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS_A_CELL = 300


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a new kernel that works in a folder.

    Args:
        path: The notebook.
        folder: Where its kernel works.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(notebook, timeout=SECONDS_A_CELL, resources=resources)
    client.km = client.create_kernel_manager()
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # `!cxr-ssl` of this environment
    client.execute(env=os.environ | {"PATH": commands, "PYTHONPATH": str(EXAMPLES.parent)})
    return notebook


def run_here(path: Path, num_patients: int, size_px: int) -> None:
    """Run a notebook's cells in this process and its working folder, where what they import is imported already.

    Args:
        path: The notebook.
        num_patients: Of the phantoms, in place of the notebook's own number.
        size_px: Side of the phantoms.

    Raises:
        Exception: whatever a cell raised.
    """
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    small = f"num_patients={num_patients},size_px={size_px}"
    shell = InteractiveShell()
    try:
        for source in cells:
            shell.run_cell(re.sub(r"num_patients=\d+", small, source)).raise_error()
    finally:
        shell.history_manager.end_session()


def main() -> None:
    """Execute every notebook in a folder of its own and keep what the cells put out."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # the time of day of each cell
            for output in cell.get("outputs", ()):
                if "text" in output:
                    output.text = output.text.replace(f"{folder}/", "")
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
