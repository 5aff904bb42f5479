"""The order of the rooms is kept: see `import_graph.ROOMS`."""

import ast

import pytest

from tests import import_graph

MODULES_A_FOLDER = import_graph.modules_a_folder()


@pytest.fixture(scope="module")
def graph():
    """Of every module; not made by each process that collects the tests."""
    return import_graph.imports()


def test_every_module_stands_in_a_room_of_the_list(graph):
    assert {room for module in graph if (room := import_graph.room_of(module))} == set(import_graph.ROOMS)


def test_no_room_imports_one_below_it(graph):
    assert import_graph.against_the_order(graph) == []


def test_there_are_no_circles_and_at_most_nine_floors(graph):
    assert import_graph.circles(graph) == []
    assert max(import_graph.floors(import_graph.room_graph(graph)).values()) <= 9


@pytest.mark.parametrize("folder", sorted(MODULES_A_FOLDER))
def test_a_room_is_small_enough_to_walk(folder):
    assert MODULES_A_FOLDER[folder] <= 15


@pytest.mark.parametrize("folder", sorted(MODULES_A_FOLDER))
def test_every_room_says_what_comes_in_and_what_goes_out(folder):
    text = ast.get_docstring(ast.parse((import_graph.ROOT / folder / "__init__.py").read_text("utf-8"))) or ""
    assert folder == "pipeline" or ("In: " in text and "Out: " in text)
