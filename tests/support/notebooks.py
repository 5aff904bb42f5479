"""Runs the notebooks in `examples/`; `python -m tests.support.notebooks` writes their outputs into them again."""

import os
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS_A_CELL = 300


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a new kernel that works in a folder.

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


def main() -> None:
    """Execute every notebook in a folder of its own and keep what the cells put out."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # the time of day of each cell
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
