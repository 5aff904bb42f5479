"""Where a file of a run lies is known in one place: nobody else spells its name, or a round's folder."""

import ast

import pytest

from embeddings import backbones
from embeddings.pretrain import loop
from pipeline.contracts.tables import CONTRACTS
from pipeline.runtime import run_files
from tests.import_graph import ROOT

NAMES = {value for name, value in vars(run_files).items() if name.isupper() and isinstance(value, str)}
FILES = {name.rpartition("/")[2] for name in NAMES if "." in name[1:]} | {table.file for table in CONTRACTS}
KNOWN = ("pipeline/runtime/run_files.py", "pipeline/contracts/tables.py")
# Files of these names that are not a run's.
OTHERS = {
    ("pipeline/annotate/zip_bundle.py", "index.html"): "the page inside a bundle",
    ("pipeline/monitor/history.py", "index.html"): "the page of a monitored stream of batches",
    ("pipeline/monitor/history.py", "history.jsonl"): "and its batches",
    ("pipeline/pool/phantoms/pool.py", "images"): "the scans of a generated pool",
    ("pipeline/pool/sources.py", "manifest.parquet"): "a pool's own list of scans",
    ("pipeline/predict/exported/standalone.py", "model.onnx"): "in the exported folder, without this package",
    ("pipeline/predict/exported/standalone.py", "card.json"): "in the exported folder, without this package",
}


def spelled(nodes):
    """Names of a run's files, and parts of a round's path, that a module spells: (line, text)."""
    prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            if node.value.rpartition("/")[2] in FILES or f"{run_files.ROUNDS}/" in node.value:
                yield node.lineno, node.value
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            if node.right.value in NAMES | FILES:  # `folder / "rounds"`
                yield node.lineno, node.right.value
        elif isinstance(node, ast.FormattedValue) and node.format_spec and ast.unparse(node.format_spec) == "f'02d'":
            yield node.lineno, ":02d"


def read_past_run_files(nodes):
    """Lines that read a table which all findings share where it may not lie."""
    shared = {table.name.upper() for table in CONTRACTS if table.file in run_files.SHARED} | {"SPLIT_TABLE"}
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr == "read" and ast.unparse(node.value) in shared:
            yield node.lineno, ast.unparse(node.value)


@pytest.fixture(scope="module")
def by_module():
    """What each module spells, and what it reads past `run_files`; each is parsed once."""
    checked = {}
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        checked[str(path.relative_to(ROOT))] = list(spelled(nodes)), list(read_past_run_files(nodes))
    return checked


def test_nobody_else_spells_a_runs_files(by_module):
    misspelled = [
        f"{module}:{line} {text}"
        for module, (spellings, _) in by_module.items()
        if module not in KNOWN
        for line, text in spellings
        if (module, text) not in OTHERS
    ]
    assert misspelled == []


def test_tables_that_findings_share_are_read_where_they_lie(by_module):
    assert [f"{module}:{line} {table}" for module, (_, reads) in by_module.items() for line, table in reads] == []


def test_every_exception_is_needed(by_module):
    for module, text in OTHERS:
        assert text in {spelling for _, spelling in by_module[module][0]}


def test_the_backbones_room_which_knows_no_run_names_the_same_folder():
    assert run_files.PRETRAINED == backbones.PRETRAINED
    assert f"{backbones.PRETRAINED}/{loop.HISTORY}" == run_files.PRETRAINED_HISTORY
