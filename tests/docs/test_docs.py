"""The README and the documentation: what they show works, and what is made from the code is complete.

In a page a fence of `sh` holds shell lines; every `cxr-ssl` line in it must name a command and options that exist.
A fence of `yaml` is a configuration and must pass `cxr-ssl config check`. `<!-- file: NAME -->` before a fence saves
it, `<!-- runs -->` before one has its lines run, also `python`, in the order of the page, in a folder of its own;
`<!-- runs slowly -->` only in `make test-all`.
"""

import ast
import fnmatch
import functools
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from threadpoolctl import threadpool_limits

from pipeline import api, cli, stages
from pipeline.contracts import config_file, errors, tables
from pipeline.contracts.config import Config
from pipeline.monitor import judgement
from tests import import_graph
from tests.docs import examples
from tests.support import tiny_backbone

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
# What makes an example small: it runs as it is written, with these options on top.
SMALL = {
    "engine.backend": "serial",
    "preprocess.size_px": "64",
    "evaluate.num_bootstrap": "20",
    "audit.num_bootstrap": "20",
    "rounds.reference": "false",
    "duplicates.changed": "false",
    "stop.num_repeats": "2",
}
TAKES_OPTIONS = ("run", "audit", "embed", "pretrain")

A_FILE = re.compile(r"(?:\.\./|\w+/)*[\w.-]+\.(?:parquet|jsonl|json|html|npy|safetensors|onnx|csv|md|yaml|log)")
# Files that the code reads, that lie in the cache, or that are gone when a command has ended.
NOT_LEFT = {
    "answers.csv",
    "findings_fixed.json",
    "impression_fixed.json",
    "labels.json",
    "report_fixed.json",
    "manifest.csv",
    "quickstart.yaml",
    "phantom-pool.json",
    "bench-embeddings.npy",
    "audit_pixels.npy",
    "failure.json",
    "head.safetensors",
    "whole.onnx",
    "preprocessor_config.json",
    "open_clip_config.json",
    "config.json",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    ".index.json",
    "README.md",
}

each_page = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))


def load_generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()


@pytest.fixture(scope="module")
def pages():
    return generate.pages()


# --- what is written by hand


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 9000


@each_page
def test_links_to_files_lead_somewhere(page, pages):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target.partition("#")[0]).resolve() if target.partition("#")[0] else page
        made = path.is_relative_to(DOCS) and path.relative_to(DOCS).as_posix() in pages
        assert path.exists() or (made and page.is_relative_to(DOCS)), f"{page.name}: {target}"


@pytest.mark.parametrize("room", import_graph.ROOMS)
def test_every_room_has_a_line_in_the_readme_and_in_the_code_map(room):
    own = ROOT / room if (ROOT / room).is_dir() else ROOT / "pipeline" / room
    name = f"{own.relative_to(ROOT)}/" if own.is_dir() else f"pipeline/{room}.py"
    tree = (ROOT / "README.md").read_text("utf-8").partition("## What lies where")[2].partition("\n```\n\n")[0]
    assert re.search(rf"(^|, ){re.escape(name)}( |,)", tree, re.MULTILINE)
    assert f"`{name}`" in (DOCS / "code-map.md").read_text("utf-8")


def test_the_rooms_stand_in_their_order():
    table = (DOCS / "code-map.md").read_text("utf-8").partition("## The rooms")[2].partition("\n\nEvery")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if re.match(r"\| \d", line)]
    names = [
        re.sub(r".*/", "", one.rstrip("/").removesuffix(".py")) for row in rows for one in re.findall(r"`([^`]+)`", row)
    ]
    assert tuple(names) == import_graph.ROOMS


@each_page
def test_paths_of_code_exist(page):
    for path in re.findall(r"`((?:pipeline|embeddings|jobs|configs|tests|docs)/[\w./-]*)`", page.read_text("utf-8")):
        assert (ROOT / path).exists(), path


def test_every_dependency_earns_its_place_in_a_line():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {name: needs for name, needs in project["optional-dependencies"].items() if name != "dev"}
    said = set(re.findall(r"`([\w.-]+)`", (DOCS / "dependencies.md").read_text("utf-8")))
    for need in [*project["dependencies"], *(need for needs in extras.values() for need in needs)]:
        assert re.match(r"[\w.-]+", need)[0] in said, need


def test_all_exit_codes_are_said():
    def below(kind):
        return {kind.exit_code}.union(*(below(child) for child in kind.__subclasses__()))

    rows = re.findall(r"^\| ([\d, ]+) \|", (DOCS / "reference" / "exit-codes.md").read_text("utf-8"), re.MULTILINE)
    verdicts = set(judgement.EXIT_CODES.values())
    signals = {128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    said = {int(code) for row in rows for code in row.split(",")}
    assert said == below(errors.CxrSslError) | verdicts | signals | {0}


def test_stages_stand_in_order():
    table = (DOCS / "how-it-works.md").read_text("utf-8").partition("| stage |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [stage.name for stage in stages.STAGES]
    assert re.findall(r"`(\w+)` \|", generate.stages())[:1] == [stages.STAGES[0].name]


def test_every_committed_table_is_read_out():
    text = (DOCS / "results" / "index.md").read_text("utf-8")
    for path in generate.result_files():
        assert f"({path.name})" in text, path.name


# --- what is made from the code


def dotted(section, prefix=""):
    for name, field in section.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from dotted(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description


def test_every_option_is_there_with_its_help(pages):
    found = list(dotted(Config))
    assert len(found) > 100
    for key, text in found:
        row = next((line for line in pages["reference/options.md"].splitlines() if line.startswith(f"| `{key}` |")), "")
        assert " ".join(text.split()).replace("|", "\\|") in row, key


def test_every_table_and_column_is_there(pages):
    page = pages["reference/tables.md"]
    for contract in tables.CONTRACTS:
        part = page.partition(f"## {contract.name}.parquet ")[2].partition("\n## ")[0]
        for name in contract.schema.names:
            row = next((line for line in part.splitlines() if line.startswith(f"| `{name}` |")), "")
            assert re.search(r"\w", row.split(" | ")[3]), f"{contract.name}.{name} is there with what it holds"
    assert "keyed hash" in page, "the comments behind the columns are not read any more"


def test_every_command_and_option_is_there(pages):
    page = pages["reference/commands.md"]
    found = dict(generate.command_list())
    assert {"run", "queue export", "labels undo", "config check"} <= set(found)
    for name, command in found.items():
        part = page.partition(f"\n## {name} {{")[2].partition("\n## ")[0]
        for param in command.params:
            assert param.name == "help" or any(f"`{one}`" in part for one in (*param.opts, generate._usage(param))), (
                param
            )


def test_every_module_is_there(pages):
    for path in (ROOT / "pipeline").rglob("*.py"):
        if path.name != "__init__.py":
            assert f"| `{path.name}` |" in pages["reference/modules.md"], path


def test_every_file_the_code_names_is_documented():
    names = {
        node.value.rpartition("/")[2]
        for path in [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "embeddings").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and A_FILE.fullmatch(node.value)
    }
    assert {"metrics.jsonl", "evaluation.json"} <= names
    written = names | {f"{contract.name}.parquet" for contract in tables.CONTRACTS}
    text = (DOCS / "reference" / "files.md").read_text("utf-8")
    missing = sorted(name for name in written - NOT_LEFT if f"{name}`" not in text)
    assert missing == [], "give each a row in docs/reference/files.md"


# --- examples


@each_page
def test_commands_in_examples_exist(page):
    group = typer.main.get_command(cli.app)
    for line in examples.commands(page.read_text("utf-8")):
        words = shlex.split(line, comments=True)
        examples.parse(group, words[1:], line)


def test_inline_commands_exist_too():
    known = {name for name, _ in generate.command_list()}
    first = {name.split()[0] for name in known}
    for page in WRITTEN:
        for said in re.findall(r"`cxr-ssl ([a-z]+)", page.read_text("utf-8")):
            assert said in first, f"{page.name}: cxr-ssl {said}"


def test_options_in_the_text_exist():
    sections = set(Config.model_fields)
    known = {key for key, _ in dotted(Config)}
    parents = {key.rpartition(".")[0] for key in known}
    files = ("json", "jsonl", "parquet", "html", "py", "csv", "npy", "npz", "safetensors", "md", "yaml", "store")
    for page in WRITTEN:
        for key in re.findall(r"`(?:--set )?(\w+(?:\.\w+)+)[`:=]", page.read_text("utf-8")):
            if key.partition(".")[0] in sections and key.rpartition(".")[2] not in files[:-1]:
                assert key in known | parents, f"{page.name}: {key}"


@each_page
def test_yaml_examples_are_configurations(page, tmp_path):
    for number, text in enumerate(examples.fences(page.read_text("utf-8"), "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text.body, "utf-8")
        found = examples.call("config", "check", path)
        assert found.code == 0, found.err


def pages_with(mark):
    return [page for page in WRITTEN if f"<!-- {mark} -->" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", pages_with("runs"), ids=lambda page: page.name)
def test_examples_that_say_so_run(page, tmp_path, tmp_path_factory, monkeypatch):
    run_examples(page, tmp_path, tmp_path_factory, monkeypatch, slowly=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("runs slowly"), ids=lambda page: page.name)
def test_slow_examples_run_too(page, tmp_path, tmp_path_factory, monkeypatch):
    run_examples(page, tmp_path, tmp_path_factory, monkeypatch, slowly=True)
    if page.name == "getting-started.md":
        assert_every_file_is_documented(tmp_path / "runs" / "first")


def run_examples(page, tmp_path, tmp_path_factory, monkeypatch, *, slowly):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXR_SSL_CACHE", str(tmp_path_factory.getbasetemp() / "docs-cache"))
    small = SMALL | tiny_backbone.weights(tmp_path_factory.getbasetemp() / "docs-weights")
    options = dict(config_file.parse_override(f"{key}={value}") for key, value in small.items())
    for name in ("embed", "audit"):
        monkeypatch.setattr(api, name, functools.partial(getattr(api, name), options=options))
    extra = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    for fence in examples.all_fences(page.read_text("utf-8")):
        if fence.file:
            (tmp_path / fence.file).write_text(fence.body, "utf-8")
        if not fence.runs or (fence.slowly and not slowly):
            continue
        if fence.kind == "python":
            with threadpool_limits(1):
                exec(compile(fence.body, str(page), "exec"), {})
        for line in examples.lines(fence):
            words = shlex.split(line, comments=True)[1:]
            with threadpool_limits(1):  # threads that wait for each other make a busy machine crawl
                found = examples.call(*words, *(extra if words[0] in TAKES_OPTIONS else ()))
            assert found.code == 0, f"{line}\n{found.err}"


def assert_every_file_is_documented(run):
    """Every file of a real run has a row, every column and key a word."""
    text = (DOCS / "reference" / "files.md").read_text("utf-8")
    said = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    patterns = [name.replace("RR", "[0-9][0-9]").replace("ID.", "*.").replace("NAME", "*") for name in said]
    patterns = [name.replace("…", "*") for name in patterns]
    left = [path for path in run.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert len(left) > 20
    for path in left:
        name = path.relative_to(run).as_posix()
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name
    contracts = {contract.name for contract in tables.CONTRACTS}
    words = set(re.findall(r"`(\w+)`", text))
    for path in (path for path in left if path.suffix == ".parquet" and path.stem not in contracts):
        columns = {name for name in pq.read_schema(path).names if not name.startswith("prob_")}
        assert columns <= words, f"{path.name}: {columns - words}"
    for name in ("metrics.jsonl", "audit.json", "evaluation.json", "status.json"):
        whole = (run / name).read_text("utf-8")
        keys = set(json.loads(whole.splitlines()[0] if name.endswith("l") else whole))
        assert keys <= words, f"{name}: {keys - words}"


# --- the site


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr  # not with --quiet: it hides warnings from --strict, too
    assert "WARNING" not in built.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text("utf-8")
        assert re.findall(r'<(?:script|img|iframe)[^>]+src="?https?://', text) == []
        assert re.findall(r'<link[^>]+(?:stylesheet|preconnect|preload|icon)[^>]+href="?https?://', text) == []
    for name in ("index.html", "reference/options.html", "results/selection-kermany.html", "decisions/index.html"):
        assert (tmp_path / "site" / name).is_file()
