import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.contracts import config_file
from pipeline.contracts.config import Config
from pipeline.contracts.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


def written(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text, "utf-8")
    return path


def mistakes(path=None, overrides=None):
    with pytest.raises(ConfigError) as caught:
        config_file.load(path, overrides)
    return caught.value.mistakes


def test_every_mistake_at_once_with_its_line(tmp_path):
    path = written(
        tmp_path,
        "seed: -1\nqueue:\n  budgett: 3\n  uniform_share: 2\nrounds:\n  num: many\n# note\nstrategie:\n  name: x\n",
    )
    found = mistakes(path)
    assert [m.partition(": ")[0] for m in found] == [
        f"{path}:1 seed",
        f"{path}:3 queue.budgett",
        f"{path}:4 queue.uniform_share",
        f"{path}:6 rounds.num",
        f"{path}:8 strategie",
    ]
    assert found[1].endswith("unknown key; did you mean 'budget'?")
    assert found[3].endswith("(got 'many')")
    assert found[4].endswith("did you mean 'strategy'?")


def test_mistakes_of_the_file_and_of_overrides_are_shown_together(tmp_path):
    found = mistakes(written(tmp_path, "seed: x\n"), {"queue.budget": 0, "unknown.key": 1})
    assert len(found) == 3
    assert any(m.startswith("--set queue.budget: ") and m.endswith("(got 0)") for m in found)
    assert any(m.startswith("--set unknown: unknown key") for m in found)


def test_an_override_wins_over_the_file(tmp_path):
    path = written(tmp_path, "queue:\n  budget: 7\n  uniform_share: 0.5\n")
    found = config_file.load(path, {"queue.budget": 9})
    assert (found.queue.budget, found.queue.uniform_share) == (9, 0.5)


def test_an_override_below_an_option_is_refused(tmp_path):
    assert "seed is not a section" in mistakes(written(tmp_path, "seed: 1\n"), {"seed.x": 1})[0]


def test_yaml_is_version_1_2(tmp_path):
    found = config_file.load(written(tmp_path, "pool:\n  findings: [NO, yes, 2020-01-01]\ntrain:\n  lr: 1e-3\n"))
    assert found.pool.findings == ("NO", "yes", "2020-01-01")
    assert found.train.lr == 0.001


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("queue.budget=50", "queue.budget", 50),
        ("train.lr=1e-3", "train.lr", 0.001),
        ("pool.findings=[NO, 'a=b']", "pool.findings", ["NO", "a=b"]),
        (" oracle = true", "oracle", True),
        ("pool.patient_regex=", "pool.patient_regex", None),
    ],
)
def test_overrides_are_yaml(text, key, value):
    assert config_file.parse_override(text) == (key, value)


@pytest.mark.parametrize("text", ["nonsense", "=3", "queue.budget=[1", "pool.columns={a: 1, a: 2}", "seed=\x00"])
def test_a_broken_override_is_named(text):
    with pytest.raises(ConfigError, match="--set"):
        config_file.parse_override(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nqueue: {}\nseed: 2\n", ":3 found duplicate key"),
        ("seed: 1\nqueue:\n\tbudget: 3\n", ":3 is not YAML"),
        ("seed: 1\n---\nseed: 2\n", "is not YAML"),
        ("seed: 1\x00\n", "is not YAML"),
        ("- a\n", "must be a mapping"),
    ],
)
def test_what_is_no_configuration_is_explained(tmp_path, text, message):
    (found,) = mistakes(written(tmp_path, text))
    assert message in found
    assert str(tmp_path / "x.yaml") in found


def test_unreadable_files_are_explained(tmp_path):
    assert "no such file" in mistakes(tmp_path / "none.yaml")[0]
    assert "cannot be read" in mistakes(tmp_path)[0]
    (tmp_path / "latin.yaml").write_bytes("# für\n".encode("latin-1"))
    assert "UTF-8" in mistakes(tmp_path / "latin.yaml")[0]


def test_no_code_is_run_from_yaml(tmp_path):
    mark = tmp_path / "mark"
    mistakes(written(tmp_path, f"seed: !!python/object/apply:os.system ['touch {mark}']\n"))
    assert not mark.exists()


def test_an_empty_file_and_a_section_commented_out_mean_the_defaults(tmp_path):
    assert config_file.load(written(tmp_path, "# nothing\n")) == Config()
    assert config_file.load(written(tmp_path, "queue:\n  # budget: 3\nseed: 4\n")) == Config(seed=4)


def test_merged_keys_are_read_and_checked(tmp_path):
    assert config_file.load(written(tmp_path, "train: &a\n  batch_size: 8\nembed:\n  <<: *a\n")).embed.batch_size == 8
    (found,) = mistakes(written(tmp_path, "queue: &a\n  budget: 3\nrounds:\n  <<: *a\n"))
    assert "rounds.budget: unknown key" in found


def test_dump_and_load_give_the_same(tmp_path):
    before = config_file.load(
        None, {"pool.findings": ["NO", "1e-3", "null", "ä: #"], "pool.columns": {"label": "yes"}, "train.lr": 1e-3}
    )
    assert before.pool.findings == ("NO", "1e-3", "null", "ä: #")
    assert config_file.load(written(tmp_path, config_file.dump(before))) == before


def test_unknown_columns_and_single_findings_are_refused():
    assert "unknown ['diagnosis']" in mistakes(None, {"pool.columns": {"diagnosis": "x"}})[0]
    for findings in (["a"], ["a", "a"], ["a", "b", "a"]):
        assert "name at least two classes, and none twice" in mistakes(None, {"pool.findings": findings})[0]
    several = {"pool.findings_are": "independent", "pool.findings": ["a", "b", "a"]}
    assert "name at least one, and none twice" in mistakes(None, several)[0]


@pytest.mark.parametrize("findings", [["Normal", "normal"], ["mass", "Effusion", " MASS "]])
def test_names_that_differ_in_case_and_blanks_alone_are_one(findings):
    assert "are one; name it once" in mistakes(None, {"pool.findings": findings})[0]
    assert "one of them is blank" in mistakes(None, {"pool.findings": ["normal", " "]})[0]


def test_it_is_frozen():
    with pytest.raises(ValidationError):
        Config().seed = 1


def test_every_option_has_help():
    for name, section in Config.model_fields.items():
        nested = getattr(section.annotation, "model_fields", {name: section})
        assert all(option.description for option in nested.values()), name


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_our_own_files_have_no_mistakes(path):
    assert config_file.load(path) != Config()


def test_the_schema_file_is_up_to_date():
    assert json.loads((CONFIGS / "schema.json").read_text("utf-8")) == config_file.schema()


def test_a_number_where_a_text_belongs_is_told_how_to_be_written():
    message = mistakes(None, {"pool.uri": 0, "backbone.name": True})
    assert "(got 0)" in message[0] and message[0].endswith('in quotes: "0"')
    assert any('"true"' in line for line in message)


@pytest.mark.parametrize(("text", "brackets"), [("normal,pneumonia", "'[normal, pneumonia]'"), ("3", "'[3]'")])
def test_a_text_where_a_list_belongs_is_told_how_to_be_written(text, brackets):
    (message,) = mistakes(None, dict([config_file.parse_override(f"pool.findings={text}")]))
    assert message.endswith(f"a list is written in brackets: {brackets}")


def test_names_of_classes_may_be_numbers():
    pool = config_file.load(None, {"pool.findings": [0, 1.0], "pool.positive": 1}).pool
    assert (pool.findings, pool.positive) == (("0", "1"), "1")
    assert config_file.load(None, {"pool.findings": [False, True]}).pool.findings == ("false", "true")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"age": ">= old"}, "compares with 'old', which is no number"),
        ({"age": ">> 3"}, "'>> 3' is no condition"),
        ({"age": "=> 18"}, "'=> 18' is no condition"),
        ({"view": []}, "the list is empty"),
        ({"view": ["PA", "<"]}, "'<' is no condition"),
    ],
)
def test_a_condition_that_cannot_be_read_is_told_before_anything_else(where, words):
    (message,) = mistakes(None, {"pool.where": where})
    assert words in message and f"where.{next(iter(where))}" in message


def test_no_finding_is_not_a_finding():
    (message,) = mistakes(None, {"pool.findings_are": "independent", "pool.findings": ["mass", "No  finding"]})
    assert "'No  finding' says that there is none" in message
