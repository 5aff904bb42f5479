"""Options as text: a YAML file is read with its line numbers, and every mistake in it is shown at once."""

import difflib
import json
import textwrap
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.contracts.config import Config
from pipeline.contracts.errors import ConfigError
from pipeline.contracts.options.section import Section

_COMMENT_WIDTH = 110


def load(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Config:
    """Read a YAML file and apply dotted overrides (`queue.budget` -> value).

    Raises:
        ConfigError: with every mistake of the file and the overrides, one a line, with line numbers.
    """
    tree, lines = ({}, {}) if path is None else _read_yaml(path)
    where = {} if path is None else {key: f"{path}:{line}" for key, line in lines.items()}
    mistakes: list[str] = []
    for dotted, value in (overrides or {}).items():
        mistakes += _put(tree, dotted, value)
        where[dotted] = "--set"
        for parent in _parents(dotted):
            where.setdefault(parent, "--set")
    try:
        config = Config.model_validate_json(json.dumps(tree, default=str))  # a date is text here
    except ValidationError as error:
        mistakes += [_explain(item, where) for item in error.errors()]
    if mistakes:
        raise ConfigError(sorted(mistakes, key=_line_of))
    return config


@lru_cache(maxsize=32)
def values_of(text: str) -> dict[str, Any]:
    """What a configuration holds, unchecked, for those who only show it; nobody changes what they get."""
    return YAML(typ="safe", pure=True).load(text) or {}


def parse_override(text: str) -> tuple[str, Any]:
    """Split `a.b=c` and read `c` as YAML 1.2 (`1e-3` is a number, `NO` is text)."""
    key, sep, value = text.partition("=")
    if not sep or not key.strip():
        raise ConfigError([f"--set {text}: write it as section.option=value"])
    try:
        return key.strip(), _plain(_yaml().load(value), "", {})
    except YAMLError as error:
        raise ConfigError([f"--set {text}: {_first_line(error)}"]) from error


def dump(config: Config, *, only_given: bool = False) -> str:
    """The configuration as YAML, in schema order: the whole, or only what a file or an option gave."""
    return _written(json.dumps(config.model_dump(mode="json", exclude_unset=only_given)))


@lru_cache(maxsize=32)
def _written(tree: str) -> str:
    """A tree, given as JSON, as YAML: every finding of a run has the configuration of the others but for a line."""
    import io

    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(json.loads(tree), stream)
    return stream.getvalue()


def described(config: Config) -> str:
    """The whole configuration as YAML, each option under its description; it can be saved and edited as it is."""
    import io

    tree = _with_comments(config, indent=0)
    stream = io.StringIO()
    YAML().dump(tree, stream)
    return stream.getvalue()


def _with_comments(section: BaseModel, indent: int) -> CommentedMap:
    """Options of a section and of those in it; `indent` in blanks."""
    plain = section.model_dump(mode="json")
    tree = CommentedMap()
    for name, shown in plain.items():  # a secret is not among them
        value = getattr(section, name)
        inside = isinstance(value, Section)
        tree[name] = _with_comments(value, indent + 2) if inside else shown
        text = (type(value).__doc__ if inside else type(section).model_fields[name].description) or ""
        comment = "\n".join(textwrap.wrap(" ".join(text.split()), _COMMENT_WIDTH - indent))
        tree.yaml_set_comment_before_after_key(name, before=comment, indent=indent)
    return tree


def schema() -> dict[str, Any]:
    """JSON schema of the configuration (`configs/schema.json`)."""
    return Config.model_json_schema()


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        node = _parse(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read as UTF-8 text ({error})"]) from error
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError([f"{path}:{line} {_first_line(error)}"]) from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError([f"{path}:{line} is not YAML: {_first_line(error)}"]) from error
    except YAMLError as error:
        raise ConfigError([f"{path} is not YAML: {_first_line(error)}"]) from error
    if node is None:
        return {}, {}
    if not isinstance(node, CommentedMap):
        raise ConfigError([f"{path}:1 must be a mapping of sections"])
    lines: dict[str, int] = {}
    tree = _plain(node, "", lines)
    return {key: {} if value is None and _is_section(key) else value for key, value in tree.items()}, lines


@lru_cache(maxsize=32)
def _parse(text: str) -> Any:
    """The nodes of a YAML text, which nobody changes: a run reads its own configuration ten times."""
    return _yaml().load(text)


def _yaml() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.version = (1, 2)
    return yaml


def _first_line(error: YAMLError) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]


def _is_section(key: str) -> bool:
    """Whether it is a section: one whose every line is commented out reads as null and means the defaults."""
    field = Config.model_fields.get(key)
    return field is not None and isinstance(field.default, Section)


def _plain(node: Any, prefix: str, lines: dict[str, int]) -> Any:
    if isinstance(node, CommentedMap):
        out = {}
        for key, value in node.items():
            dotted = f"{prefix}{key}"
            if key in (node.lc.data or {}):  # a merged key (`<<: *other`) has no line of its own
                lines[dotted] = node.lc.key(key)[0] + 1
            out[str(key)] = _plain(value, f"{dotted}.", lines)
        return out
    if isinstance(node, CommentedSeq):
        return [_plain(value, f"{prefix}{i}.", lines) for i, value in enumerate(node)]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _parents(dotted: str) -> list[str]:
    parts = dotted.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _put(tree: dict[str, Any], dotted: str, value: Any) -> list[str]:
    *parents, last = dotted.split(".")
    for depth, name in enumerate(parents):
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            return [f"--set {dotted}: {'.'.join(parents[: depth + 1])} is not a section"]
    tree[last] = value
    return []


def _explain(item: Any, where: dict[str, str]) -> str:
    dotted = ".".join(str(part) for part in item["loc"])
    place, probe = "", dotted
    while probe and not place:
        place = where.get(probe, "")
        probe = probe.rpartition(".")[0]
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        message = "unknown key" + _did_you_mean(item["loc"])
    else:
        message = f"{message[0].lower()}{message[1:]}"
        if not isinstance(item["input"], dict):
            message += f" (got {item['input']!r})"
        if item["type"] == "string_type" and isinstance(item["input"], bool | int | float):
            message += f"; as a text it is written in quotes: {json.dumps(json.dumps(item['input']))}"
        if item["type"] in ("list_type", "tuple_type") and isinstance(item["input"], str | int | float):
            parts = ", ".join(part.strip() for part in str(item["input"]).split(","))
            message += f"; a list is written in brackets: '[{parts}]'"
    return f"{place} {dotted}: {message}".strip()


def _did_you_mean(loc: tuple[Any, ...]) -> str:
    model: Any = Config
    for part in loc[:-1]:
        model = model.model_fields[part].annotation
    near = difflib.get_close_matches(str(loc[-1]), list(model.model_fields), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(model.model_fields)}"


def _line_of(mistake: str) -> tuple[str, int]:
    head = mistake.split(" ", 1)[0]
    file, _, line = head.rpartition(":")
    return (file, int(line)) if line.isdigit() else (head, 0)
