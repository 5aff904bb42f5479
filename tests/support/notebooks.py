"""Runs the notebooks in `examples/`; `python -m tests.support.notebooks` writes their outputs into them again."""

import os
import re
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS_A_CELL = 300
# What the tests' own runs leave out or make small; no notebook shows it.
QUICK = """
import pipeline.api
from pipeline.audit import probes
from pipeline.contracts import config_file
from pipeline.pages import svg_chart
from tests.support import tiny, tiny_backbone

probes.NUM_TREES, svg_chart.Figure = 15, tiny.Sketch
tiny_backbone.weights(tiny.WEIGHTS.parent)
load, small = config_file.load, dict(map(config_file.parse_override, tiny.FAST[1::2]))
config_file.load = lambda path=None, overrides=None: load(path, small | (overrides or {}))
"""


def execute(path: Path, folder: Path, num_patients: int | None = None) -> nbformat.NotebookNode:
    """The notebook with the outputs of a new kernel that works in a folder.

    Args:
        path: The notebook.
        folder: Where its kernel works.
        num_patients: Of the phantoms, in place of the notebook's own number; charts are then sketched.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    if num_patients:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(QUICK))
    for cell in notebook.cells if num_patients else ():
        cell.source = re.sub(r"num_patients=\d+", f"num_patients={num_patients}", cell.source)
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
            for output in cell.get("outputs", ()):
                if "text" in output:
                    output.text = output.text.replace(f"{folder}/", "")
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
