"""No assertion that cannot fail: a tuple, a constant, a thing compared with itself, `A in x or B in x` with B in A."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ALWAYS_TRUE = (ast.GeneratorExp, ast.Lambda, ast.Constant)


def literal(node):
    """The text of a string, or of the plain parts of an f-string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    parts = node.values if isinstance(node, ast.JoinedStr) else []
    return [part.value for part in parts if isinstance(part, ast.Constant)]


def is_memberships(node):
    return isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.In)


def is_implied(either):
    """Whether one of two memberships of the same thing follows from the other, which then says nothing."""
    for one in filter(is_memberships, either.values):
        for other in filter(is_memberships, either.values):
            same = ast.dump(one.comparators[0]) == ast.dump(other.comparators[0])
            shorter = literal(one.left)
            if one is not other and same and len(shorter) == 1 and any(shorter[0] in t for t in literal(other.left)):
                return True
    return False


def is_itself(compare):
    """Whether a name, an attribute or an item is compared with itself; two calls may well differ."""
    if len(compare.comparators) != 1 or any(isinstance(part, ast.Call) for part in ast.walk(compare.left)):
        return False
    return ast.dump(compare.left) == ast.dump(compare.comparators[0])


def void(source):
    """Lines of the assertions that cannot fail."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assert):
            continue
        parts = list(ast.walk(node.test))
        if (
            isinstance(node.test, ALWAYS_TRUE)
            or (isinstance(node.test, ast.Tuple) and node.test.elts)
            or any(isinstance(part, ast.BoolOp) and isinstance(part.op, ast.Or) and is_implied(part) for part in parts)
            or any(isinstance(part, ast.Compare) and is_itself(part) for part in parts)
        ):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_every_assertion_can_fail(path):
    assert void(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("source", "cannot"),
    [
        ("assert (x == 1, 'one')", True),
        ("assert 'yes'", True),
        ("assert (x > 1 for x in y)", True),
        ("assert x.y == x.y", True),
        ("assert f'go {place}' in x or 'go' in x", True),
        ("assert 'go' in x['y'] or 'go on' in x['y']", True),
        ("assert f'go {place}' in x or 'stop' in x", False),
        ("assert 'go' in x or 'go' in y", False),
        ("assert draw(1) == draw(1)", False),
        ("assert x, 'why'", False),
        ("assert [x for x in y]", False),
    ],
)
def test_what_cannot_fail(source, cannot):
    assert bool(void(source)) is cannot
