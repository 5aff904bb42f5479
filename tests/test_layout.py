"""The rules of the house that no linter knows."""

import ast
import importlib
import os
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.stages import STAGES
from tests.support import shares

ROOT = Path(__file__).parents[1]
PACKAGES = ("embeddings", "pipeline", "jobs")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# Their work is tested through other rooms: the loop by the end-to-end test.
WITHOUT_A_TEST_OF_THEIR_OWN = {"embed", "clusters", "loop", "random_reference"}


@cache
def parsed(path):
    """The syntax tree of a module, and all its nodes."""
    tree = ast.parse(path.read_text("utf-8"))
    return tree, list(ast.walk(tree))


@cache
def imported(path):
    """Full names of all modules a file imports, also inside functions."""
    found = set()
    for node in parsed(path)[1]:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def below(names, package):
    return {name for name in names if name == package or name.startswith(f"{package}.")}


def test_there_is_something_to_check():
    assert len(MODULES) > 40
    assert below(imported(ROOT / "pipeline" / "cli" / "runs.py"), "pipeline.commands.run") == {"pipeline.commands.run"}


CONTRACTS_OF_EMBEDDINGS = (
    "options",
    "config",
    "cache",
    "tables",
    "errors",
    "damaged_files",
    "storage",
    "shared_folder",
)


@pytest.mark.parametrize("path", sorted((ROOT / "embeddings").rglob("*.py")), ids=lambda path: path.name)
def test_embeddings_know_nothing_of_labels(path):
    allowed = tuple(f"pipeline.contracts.{name}" for name in CONTRACTS_OF_EMBEDDINGS)
    strange = {n for n in below(imported(path), "pipeline") if not any(below({n}, a) for a in allowed)}
    assert strange == set()


def modules_where(offends):
    """Modules of which `offends` is true, as a reader looks for them."""
    return [str(path.relative_to(ROOT)) for path in MODULES if offends(path)]


def test_nobody_imports_jobs_or_tests():
    assert modules_where(lambda path: any(below(imported(path), name) for name in ("jobs", "tests", "pytest"))) == []


def test_nothing_is_printed():
    def prints(path):
        calls = (node.func for node in parsed(path)[1] if isinstance(node, ast.Call))
        return any(isinstance(function, ast.Name) and function.id == "print" for function in calls)

    assert modules_where(prints) == []


def test_no_module_hides_a_standard_one():
    def hides(path):
        inside = path.parent.name if path.name == "__init__.py" else path.stem
        return inside != "__main__" and inside in sys.stdlib_module_names

    assert modules_where(hides) == []


def test_every_module_says_what_it_is():
    assert modules_where(lambda path: parsed(path)[0].body and not ast.get_docstring(parsed(path)[0])) == []


@pytest.mark.parametrize("path", [p for p in MODULES if p.parts[-2] == "jobs" and p.stem != "__init__"], ids=str)
def test_jobs_are_thin(path):
    assert below(imported(path), "pipeline") == {"pipeline.cli"}
    assert len(path.read_text("utf-8").splitlines()) < 40


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_stage_has_a_room_a_test_and_a_row_in_the_documentation(stage):
    assert callable(importlib.import_module(stage.module).run)
    module = stage.module.rpartition(".")[2]
    tests = [path.stem for path in (ROOT / "tests").rglob("test_*.py")]
    assert any(name.startswith(f"test_{module}") for name in tests) or module in WITHOUT_A_TEST_OF_THEIR_OWN
    page = ROOT / "docs" / "how-it-works.md"
    table = page.read_text("utf-8").partition("| stage |")[2].partition("\n\n")[0]
    assert f"| `{stage.name}` |" in table


def test_stages_are_named_once_and_read_sections_that_exist():
    from pipeline.contracts.config import Config

    assert len({stage.name for stage in STAGES}) == len(STAGES)
    assert {name for stage in STAGES for name in stage.reads} <= set(Config.model_fields)


def test_what_checks_the_scripts_comes_from_whatever_registry_is_at_hand():
    text = (ROOT / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in text and text.count('"integrity"') == text.count('"node_modules/')


@pytest.mark.parametrize("package", PACKAGES)
def test_our_packages_are_ours_alone(package, tmp_path):
    # An editable install lists no packages, so: nobody else provides it, and far from here it is still this one.
    assert set(metadata.packages_distributions().get(package, [])) <= {"cxr-ssl"}
    assert metadata.version("cxr-ssl") == __version__
    code = f"import {package}; raise SystemExit({package}.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert Path(found.stderr.strip()) == ROOT / package / "__init__.py"


def test_what_starts_ray_lies_in_one_folder(request):
    """Where several processes share the tests, one of them starts Ray (`support/shares.py`)."""
    assert shares.astray(request.session.items) == []


def test_every_bench_can_be_started():
    from tests.bench.__main__ import BENCHES

    assert len(BENCHES) > 40 and all(map(callable, BENCHES.values()))
