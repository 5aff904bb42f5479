import re

import pytest

from pipeline.contracts.errors import InputError
from pipeline.contracts.healthy_class import healthy_among, healthy_first, is_negative, positive_of


@pytest.mark.parametrize(
    "name",
    [
        *("normal", "NORMAL", " Normal ", "normals", "Healthy", "negative", "None", "nothing", "unremarkable"),
        *(
            "No Finding",
            "no findings",
            "no_finding",
            "NO-FINDINGS",
            "NoFinding",
            "no  acute\tfindings",
            "without findings",
        ),
        *("no abnormality", "no acute cardiopulmonary abnormalities", "no disease", "no pathology", "nothing abnormal"),
        *("control", "Controls", "healthy_controls", "normal control", "normal chest", "healthy lungs", "normal X-ray"),
        "no\u2010finding",
        *("kein Befund", "Keine Befunde", "ohne pathologischen Befund", "Unauffällig", "sin hallazgos", "Sano", "正常"),
        *("aucune anomalie", "sem achados", "normale", "Нормa".replace("a", "а"), "geen afwijkingen"),
    ],
)
def test_these_names_say_by_themselves_that_nothing_was_found(name):
    assert is_negative(name)


@pytest.mark.parametrize(
    "name",
    [
        *("nodule", "north", "nonspecific", "non-specific opacity", "noncalcified nodule", "Node", "nonew"),
        *("normal variant", "abnormal", "not normal", "non-normal", "abnormality", "normalised", "negative pressure"),
        *("no effusion", "non-covid", "controlled", "lost control", "healthy but old", "pneumonia", "", " ", "-", "0"),
        *("negative for pneumonia", "no lesion", "finding", "findings", "no"),
    ],
)
def test_and_these_do_not(name):
    assert not is_negative(name)


@pytest.mark.parametrize(
    ("healthy", "finding"),
    [
        *(("none", "effusion"), ("non-covid", "covid"), ("normal", "pneumonia"), ("No findings", "TB")),
        *(("no effusion", "effusion"), ("without_tb", "tb"), ("Non COVID", "COVID-19"), ("not tb", "TB")),
        *(("NonCovid", "covid"), ("non-covid-19", "covid"), ("covid negative", "COVID"), ("n", "y")),
        *(("covid_negative", "covid_positive"), ("effusion absent", "effusion present"), ("0", "1"), ("False", "True")),
        *(("no", "yes"), ("negative", "positive"), ("absent", "present"), ("control", "copd"), ("normal", "abnormal")),
        *(("normal", "not normal"), ("healthy", "non-healthy"), ("normal", "normal variant")),
        *(("negative for pneumonia", "typical appearance"), ("normal", "non-specific opacity"), ("none", "nodule")),
        *(("normal", "non-covid pneumonia"), ("no lung opacity / not normal", "lung opacity")),
    ],
)
def test_of_two_classes_the_other_one_is_the_finding_in_whatever_order(healthy, finding):
    for pair in ((healthy, finding), (finding, healthy)):
        assert healthy_among(pair) == [healthy]
        assert positive_of(pair, None) == finding
        assert healthy_first(pair) == (healthy, finding)
        assert positive_of(pair, healthy) == healthy  # whoever asks for it gets it
        assert healthy_first(pair, healthy) == (finding, healthy)


@pytest.mark.parametrize(
    "pair",
    [
        *(("normal", "healthy"), ("no finding", "No Findings"), ("normal", "no pneumonia"), ("none", "negative")),
        *(("no tb", "no covid"), ("control", "healthy")),
        *(("viral", "bacterial"), ("nodule", "north"), ("covid", "tb"), ("1", "2"), ("non-specific opacity", "nodule")),
        ("covid", "non-tuberculous"),
    ],
)
def test_where_both_or_neither_may_be_healthy_the_user_decides(pair):
    both = len(healthy_among(pair)) == 2
    assert both or not healthy_among(pair)
    with pytest.raises(InputError) as error:
        positive_of(pair, None)
    text = str(error.value)
    assert ("both classes" in text) is both and ("neither class" in text) is not both
    assert all(name in text for name in (*pair, "pool.positive", "--set"))
    assert [positive_of(pair, name) for name in pair] == list(pair)
    assert healthy_first(pair, pair[0]) == pair[::-1] and healthy_first(pair, pair[1]) == pair


@pytest.mark.parametrize(
    ("given", "hint"), [("Effusion", "Did you mean 'effusion'?"), ("efusion", "'effusion'"), ("mass", "There are")]
)
def test_a_finding_the_pool_lacks_is_named_with_what_was_meant(given, hint):
    for findings in (("none", "effusion"), ("none", "effusion", "nodule")):
        with pytest.raises(InputError, match=re.escape(given)) as error:
            positive_of(findings, given)
        assert "pool.positive" in str(error.value) and hint in str(error.value)


def test_of_three_classes_none_is_the_finding_and_at_most_one_healthy():
    assert positive_of(("normal", "covid", "non-covid pneumonia"), None) is None
    assert healthy_among(("normal", "covid", "non-covid pneumonia")) == ["normal"]
    assert positive_of(("viral", "bacterial", "covid"), None) is None and healthy_among(("a", "b", "no a")) == []
    assert healthy_first(("a", "none", "b")) == ("none", "a", "b")
    with pytest.raises(InputError, match=r"more than one class says that nothing was found.*normal.*No findings"):
        positive_of(("normal", "covid", "No findings"), None)
    with pytest.raises(InputError, match=r"pool\.positive: is of two classes; of 3"):
        positive_of(("normal", "covid", "tb"), "covid")
