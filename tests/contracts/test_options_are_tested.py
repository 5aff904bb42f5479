"""No option without a test that names it: what nobody names, nobody would miss."""

import re
from pathlib import Path

import pytest

from pipeline.contracts.config import Config
from pipeline.contracts.options.section import Section

TESTS = Path(__file__).parents[1]


def dotted(section=Config, prefix=""):
    """Every option of the schema as people write it: `queue.budget`."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from dotted(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def is_named(option, words):
    """Whether a file names an option: by its own name, beside that of its section (`train`, `TrainConfig`)."""
    *sections, own = option.split(".")
    return own in words and all(section in words or f"{section}config" in words for section in sections)


def words_of(text):
    return {word.lower() for word in re.findall(r"\w+", text.replace("__", " "))}  # train__lr in our own tests


@pytest.fixture(scope="module")
def files():
    paths = [path for path in TESTS.rglob("*.py") if "bench" not in path.parts and path != Path(__file__)]
    return [words_of(path.read_text("utf-8")) for path in paths]


def test_every_option_is_named_in_a_test(files):
    options = sorted(dotted())
    assert len(options) > 140 and {"seed", "queue.budget", "network.augment.crop"} <= {*options}
    assert [option for option in options if not any(is_named(option, words) for words in files)] == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"train.lr": 1}', True),
        ("TrainConfig(lr=1)", True),
        ("pretrain.lr", False),
        ("train.lr_decay", False),
        ("train", False),
        ("lr = NetworkConfig()", False),
    ],
)
def test_what_names_an_option(text, named):
    assert is_named("train.lr", words_of(text)) is named
