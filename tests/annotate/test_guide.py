"""Definitions and examples out of the configuration; no example gives an answer away."""

import pytest
from PIL import Image

from pipeline.annotate.guide import Guide, page_options
from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from tests.support.synthetic_run import options, synthetic_run

FINDINGS = ("normal", "pneumonia")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("guide") / "run", num_scans=12, num_holdout=4, labelled=())


def config_of(run, definitions, **more):
    return options(run, annotate__definitions=definitions, **more).config


def test_definitions_come_in_the_order_of_the_answers_with_their_pictures(run, tmp_path):
    Image.linear_gradient("L").resize((20, 30)).save(tmp_path / "own.png")
    own = run.ids("train")[0]
    given = {
        "cannot tell": {"text": "Two looks do not settle it."},
        "pneumonia": {"text": "An opacity.", "examples": [own, str(tmp_path / "own.png")]},
    }
    config = config_of(run, given, annotate__project="Chests", annotate__language="de", queue__min_seconds=0.5)
    guide = Guide(run.folder, config, FINDINGS, asked=())
    page = guide.options
    assert (page.language, page.project, page.min_seconds) == ("de", "Chests", 0.5)
    assert [(d.reply, d.num_examples) for d in page.definitions] == [("pneumonia", 2), ("cannot tell", 0)]
    assert Image.open(guide.example(0, 0)).size == (32, 32) and Image.open(guide.example(0, 1)).size == (20, 30)
    assert [guide.example(*place) for place in ((0, 2), (1, 0), (2, 0), (-1, 0), (0, -1))] == [None] * 5


def test_a_scan_that_is_asked_for_is_no_example(run, caplog):
    asked, free = run.ids("train")[:2]
    config = config_of(run, {"normal": {"examples": [asked, free]}})
    guide = Guide(run.folder, config, FINDINGS, asked={asked})
    assert guide.options.definitions[0].num_examples == 1 and "no longer shown as an example" in caplog.text


def test_what_is_no_answer_cannot_be_defined(run):
    with pytest.raises(InputError, match="is no answer, so it cannot be defined"):
        page_options(config_of(run, {"tuberculosis": {"text": "?"}}), FINDINGS)


def test_a_configuration_says_it_in_yaml(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("annotate:\n  definitions:\n    normal:\n      text: Nothing.\n      examples: [a.png]\n")
    assert config_file.load(path, {}).annotate.definitions["normal"].examples == ("a.png",)
    path.write_text("annotate:\n  language: fr\n")
    with pytest.raises(InputError, match=r"annotate\.language"):
        config_file.load(path, {})
