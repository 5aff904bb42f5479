"""The page's scripts, which are ES modules: those that one needs, and all of them as one script.

A browser loads no module from a `file:` address, so the page in a file carries one inline module, and its policy names
that script's hash. It is put together here, at run time: who installs this package has no Node, and the output of a
bundler kept beside its source would be one more thing to trust and to keep in step. It is text in the order of the
imports, since our modules keep to what `IMPORT` and `EXPORT` match; anything else is refused. An import map with
`data:` or `blob:` addresses would do without, but needs a policy that lets such scripts in.
"""

import re
from functools import cache
from pathlib import Path

from pipeline.pages.served.shared_files import path_of

STATIC = Path(__file__).parent / "static"
IMPORT = re.compile(r'^import \{([^{}]*)\} from "\./([a-z_]+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async function|function|class|const) (\w+))", re.MULTILINE)
OTHER = re.compile(r"^\s*(?:import|export)\b|\bimport\s*[(.]|</script|<!--", re.MULTILINE | re.IGNORECASE)


@cache
def asset(name: str) -> str:
    """A script or style of the page."""
    return path_of(name, STATIC).read_text("utf-8")


@cache
def needed(entry: str, inside: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The modules that `entry` needs, each after those that it imports, itself at the end.

    Args:
        entry: File name of a module.
        inside: The modules that import it, for the search of circles.

    Raises:
        ValueError: when modules import each other in a circle.
    """
    if entry in inside:
        raise ValueError(f"modules import each other: {' -> '.join([*inside, entry])}")
    names = [f"{name}.js" for _, name in IMPORT.findall(asset(entry))]
    scripts = [script for name in names for script in needed(name, (*inside, entry))]
    return tuple(dict.fromkeys([*scripts, entry]))


@cache
def bundled(entry: str) -> str:
    """`entry` and all it needs as one module that imports nothing: each of them a function that returns its exports.

    Raises:
        ValueError: for what cannot be put together so.
    """
    return "\n".join(_wrapped(name) for name in needed(entry))


def _wrapped(name: str) -> str:
    exports = ", ".join(EXPORT.findall(asset(name)))
    body = IMPORT.sub(r"const {\1} = module_\2;", EXPORT.sub("", asset(name)))
    if strange := OTHER.search(body):
        raise ValueError(f"{name}: {strange[0].strip()!r} cannot stand in a page's script")
    return f"const module_{Path(name).stem} = (() => {{\n{body}return {{ {exports} }};\n}})();"
