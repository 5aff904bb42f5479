"""Pages of the documentation that nobody writes by hand: made from the code and the committed tables at every build.

mkdocs runs this file as a hook (`hooks` in mkdocs.yml). `pages()` gives every page by its path below docs/;
tests/docs asserts that nothing is missing in them.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "tests" / "bench" / "results"
MARK = "<!-- generated: stages -->"
PACKAGES = ("embeddings", "pipeline", "jobs")
MADE = "*This page is made from {} at every build.*"


def pages() -> dict[str, str]:
    """Every generated page: its path below docs/ and its Markdown."""
    return {
        "reference/commands.md": commands(),
        "reference/options.md": options(),
        "reference/tables.md": tables(),
        "reference/modules.md": modules(),
        "contributing.md": _root_file("CONTRIBUTING.md"),
        "security.md": _root_file("SECURITY.md"),
        "changelog.md": _root_file("CHANGELOG.md"),
        **{f"results/{path.name}": path.read_text("utf-8") for path in result_files()},
    }


# --- options ----------------------------------------------------------------------------------------------------------


def option_rows() -> Iterator[tuple[str, str, str, str]]:
    """(dotted key, type and bounds, default, help) of every option of the configuration."""
    from pipeline.contracts.config import Config

    schema = Config.model_json_schema()

    def walk(node: dict[str, Any], prefix: str, values: Any) -> Iterator[tuple[str, str, str, str]]:
        for name, field in node["properties"].items():
            value = getattr(values, name)
            found = _resolved(field, schema)
            if "properties" in found:
                yield from walk(found, f"{prefix}{name}.", value)
            else:
                yield f"{prefix}{name}", _kind(found), _shown(value), field.get("description", "")

    yield from walk(schema, "", Config())


def options() -> str:
    """The page of all options."""
    from pipeline.contracts.config import Config

    rows = list(option_rows())
    lines = [
        "# Options",
        "",
        MADE.format("the schema of the configuration"),
        "",
        "An option is set in a YAML file (`--config`), or on the command line: `--set section.option=value`.",
        "`cxr-ssl config show` prints all of them, `cxr-ssl config check FILE` finds every mistake of a file.",
        "",
        "## Of the whole run",
        "",
        *_option_table([row for row in rows if "." not in row[0]]),
    ]
    for name, field in Config.model_fields.items():
        mine = [row for row in rows if row[0].startswith(f"{name}.")]
        if mine:
            lines += ["", f"## {name}", "", inspect.getdoc(type(field.default)) or "", "", *_option_table(mine)]
    return "\n".join(lines) + "\n"


def _option_table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    return ["| option | what it may be | default | what it does |", "| --- | --- | --- | --- |"] + [
        f"| `{key}` | {_cell(kind)} | {_cell(default)} | {_cell(text)} |" for key, kind, default, text in rows
    ]


def _resolved(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = field.get("$ref") or next((one["$ref"] for one in field.get("allOf", []) if "$ref" in one), None)
    return schema["$defs"][name.rpartition("/")[2]] if name else field


_TYPES = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "names to names"}
_BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))


def _kind(field: dict[str, Any]) -> str:
    """Type and bounds of an option, for people."""
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of: {_kind(field['items'])}"
    kind = _TYPES.get(field.get("type", ""), field.get("type", "value"))
    bounds = ", ".join(f"{sign} {field[name]:,}" for name, sign in _BOUNDS if name in field)
    return f"{kind} {bounds}".strip()


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{}" if not value else str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return f"`{value}`" if isinstance(value, str) else f"{value}"


# --- commands ---------------------------------------------------------------------------------------------------------


def command_list() -> Iterator[tuple[str, Any]]:
    """(`run`, its click command), (`queue export`, ...), in the order of the command line."""
    import typer

    from pipeline import cli

    def walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{prefix}{name} ")
            else:
                yield f"{prefix}{name}", command

    yield from walk(typer.main.get_command(cli.app), "")


def commands() -> str:
    """The page of all commands."""
    found = list(command_list())
    lines = [
        "# Commands",
        "",
        MADE.format("the command line itself"),
        "",
        "| command | what it does |",
        "| --- | --- |",
        *(f"| [`cxr-ssl {name}`](#{_anchor(name)}) | {_cell(_first_line(command.help))} |" for name, command in found),
        "",
        "How a command ends: [exit codes](exit-codes.md).",
    ]
    for name, command in found:
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        chosen = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        usage = " ".join(["cxr-ssl", name, *("[OPTIONS]" if chosen else "",), *map(_usage, arguments)])
        lines += [
            "",
            f"## {name} {{ #{_anchor(name)} }}",
            "",
            f"`{' '.join(usage.split())}`",
            "",
            inspect.cleandoc(command.help or ""),
        ]
        if command.params:
            lines += ["", "| | | default |", "| --- | --- | --- |"]
            lines += [_parameter(p) for p in (*arguments, *chosen)]
    return "\n".join(lines) + "\n"


def _usage(argument: Any) -> str:
    name = str(argument.name).upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _parameter(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"| `{_usage(param)}` | {_cell(param.help or '')} | |"
    value = "" if getattr(param, "is_flag", False) else " …"
    names = ", ".join(f"`{name}`" for name in param.opts)
    default = (
        "" if param.required or param.default in (None, False) or callable(param.default) else f"`{param.default}`"
    )
    needed = "**needed**" if param.required else default
    return f"| {names}{value} | {_cell(param.help or '')} | {needed} |"


def _first_line(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


# --- tables -----------------------------------------------------------------------------------------------------------


# What a column holds where the contract has no comment of its own.
COMMON = {
    "image_id": "the scan",
    "group_id": "its group, the unit that is never split",
    "width_px": "width",
    "height_px": "height",
    "bit_depth": "bits of a grey value",
    "format": "PNG, JPEG, TIFF",
    "view": "how the scan was taken",
    "source": "hospital or data set",
    "population": "for instance adult or paediatric",
    "age_years": "age of the patient",
    "sex": "M, F; null = unknown",
    "status": "whether it can be used",
    "reason": "why, in words",
    "label": "what the pool says; null = unlabelled",
    "pool_split": "the pool's own split",
    "kind": "how it came about",
    "split": "its side",
    "cluster": "number of its cluster",
    "y": "the same",
    "finding": "the class or finding",
    "origin": "who gave it: a person (or pool, or oracle), or the model",
    "annotator": "name of the person, `pool`, `oracle` or `model`",
    "time": "when it was given; null where that is not known",
    "round": "number of the round",
}


def tables() -> str:
    """The page of all tables with their columns."""
    from pipeline.contracts import tables as contracts

    notes = _column_notes(contracts)
    lines = [
        "# Columns of the tables",
        "",
        MADE.format("the contracts in `pipeline/contracts/tables.py`"),
        "",
        "Every table is checked against its contract when it is written and when it is read.",
    ]
    for contract in contracts.CONTRACTS:
        allowed = dict(contract.values)
        lines += ["", f"## {contract.name}.parquet {{ #{contract.name} }}", ""]
        if contract.key:
            lines += [f"One row for each {' and '.join(f'`{name}`' for name in contract.key)}.", ""]
        lines += ["| column | type | may be empty | what it holds |", "| --- | --- | --- | --- |"]
        for field in contract.schema:
            said = [notes.get((contract.name, field.name)) or COMMON.get(field.name, "")]
            if field.name in allowed:
                said.append("one of " + ", ".join(f"`{value}`" for value in allowed[field.name]))
            text = "; ".join(filter(None, said))
            lines.append(f"| `{field.name}` | {field.type} | {'yes' if field.nullable else 'no'} | {_cell(text)} |")
        if contract.open_prefix:
            lines.append(f"| `{contract.open_prefix}…` | float | no | one column for each finding |")
    return "\n".join(lines) + "\n"


def _column_notes(module: Any) -> dict[tuple[str, str], str]:
    """The comments behind the columns in the source: (table, column) to text."""
    found, table = {}, ""
    lines = Path(inspect.getsourcefile(module) or "").read_text("utf-8").splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if before.rstrip().endswith("Contract("):
            table = line.strip().strip('",')
        if match := re.search(r'_(?:key|col)\("(\w+)".*\),?(?:\]\),)?\s+# (.+)', line):
            found[table, match[1]] = match[2]
    return found


# --- code map ---------------------------------------------------------------------------------------------------------


def stages() -> str:
    """The stages in order, with the room of each."""
    from pipeline.stages import STAGES

    lines = ["| | stage | what it does | starts in | leaves |", "| --- | --- | --- | --- | --- |"]
    for number, stage in enumerate(STAGES, start=1):
        path = _path(importlib.import_module(stage.module))
        left = ", ".join(f"`{name}`" for name in stage.outputs)
        lines.append(f"| {number} | `{stage.name}` | {_cell(stage.purpose)} | `{path}` | {left} |")
    return "\n".join(lines)


def modules() -> str:
    """Every module with its first line, room by room."""
    rooms: dict[str, list[str]] = {}
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        said = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        if said:
            room = path.parent.relative_to(ROOT).as_posix()
            rooms.setdefault(room, []).append(f"| `{path.name}` | {_cell(said.splitlines()[0])} |")
    lines = [
        "# Modules",
        "",
        MADE.format("the first line of every module"),
        "",
        "In which order to read them is on the [code map](../code-map.md).",
    ]
    for room, rows in rooms.items():
        lines += ["", f"## {room}/", "", "| module | what it is |", "| --- | --- |", *rows]
    return "\n".join(lines) + "\n"


def _path(module: Any) -> str:
    return Path(inspect.getsourcefile(module) or "").relative_to(ROOT).as_posix()


# --- files of the repository ------------------------------------------------------------------------------------------


def result_files() -> list[Path]:
    """The committed tables of the benches."""
    return sorted(RESULTS.glob("*.md"))


def _name_of(path: Path) -> str:
    """`selection-covid3.md` -> Selection, covid3."""
    return path.stem.capitalize().replace("-", ", ")


def _root_file(name: str) -> str:
    """A file of the repository's root; its links to pages below docs/ become links of the site."""
    return re.sub(r"\]\(docs/", "](", (ROOT / name).read_text("utf-8"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# --- what mkdocs calls ------------------------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    """Put every committed table into the navigation, under the name of its file."""
    results = next(part["Results"] for part in config.nav if "Results" in part)
    tables_part = next(part for part in results if "Tables" in part)
    tables_part["Tables"] = [{_name_of(path): f"results/{path.name}"} for path in result_files()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in the list of stages where a page asks for it; keep a number and its interval on one line."""
    if MARK in markdown:
        markdown = markdown.replace(MARK, stages())
    return markdown.replace(" ± ", "\u00a0±\u00a0")
