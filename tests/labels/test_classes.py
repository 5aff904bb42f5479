import pytest

from pipeline.contracts import config_file
from pipeline.contracts.errors import ConfigError, InputError
from pipeline.contracts.finding_line import Independent, question
from pipeline.labels.classes import positive_among


def options(**given):
    return config_file.load(None, {f"pool.{name}": value for name, value in given.items()}).pool


def test_the_finding_is_an_index_in_the_order_the_user_gave():
    assert positive_among(options(), ("normal", "pneumonia")) == 1
    assert positive_among(options(findings=["pneumonia", "normal"]), ("pneumonia", "normal")) == 0
    assert positive_among(options(positive="viral"), ("bacterial", "viral")) == 1
    assert positive_among(options(positive="bacterial"), ("bacterial", "viral")) == 0
    assert positive_among(options(), ("normal", "covid", "tb")) is None


@pytest.mark.parametrize("finding", ["effusion", "no effusion", "normal variant", "non-specific opacity"])
def test_an_independent_finding_is_its_own_whatever_it_is_called(finding):
    pool = options(findings_are="independent", findings=[finding], finding=finding)
    assert positive_among(pool, question(finding)) == 1
    assert positive_among(options(findings_are="independent"), Independent((finding, "mass"))) is None


def test_a_finding_that_no_class_is_called_after_is_refused():
    with pytest.raises(InputError, match=r"pool\.positive.*'Viral'.*[Dd]id you mean 'viral'"):
        positive_among(options(positive="Viral"), ("bacterial", "viral"))
    with pytest.raises(ConfigError, match="of independent findings each is asked for by itself"):
        options(positive="mass", findings_are="independent")
