"""Which class says that nothing was found, and which one is the finding: decided here for the whole pipeline.

A name by itself says so only where it can mean nothing else (`normal`, `No findings`). What denies one thing, like
`no effusion` or `non-covid`, is healthy only beside what it denies: among three classes `non-covid pneumonia` is ill.
So it counts in a question of two classes, where the other one is left to be the finding; and where names leave it open,
the user decides (`pool.positive`), because a guess would turn every sensitivity into a specificity.
"""

import difflib
import re
import unicodedata
from collections.abc import Sequence

from pipeline.contracts.errors import InputError

_PEOPLE = r"controls?|cases?|patients?|persons?|people|subjects?|volunteers?"
_PICTURES = r"chests?|lungs?|cxrs?|(?:chest\ )?x\ ?rays?|radiographs?|films?|scans?|images?"
_KINDS = r"acute|active|significant|relevant|abnormal|pathological|cardiopulmonary|lung"
_NOTHING = r"findings?|abnormalit(?:y|ies)|diseases?|patholog(?:y|ies)"
_OTHER_LANGUAGES = "|".join(
    (
        r"kein(?:e|en)?\ (?:pathologischer?\ |pathologischen\ )?befunde?|ohne\ (?:pathologischen\ )?befund",
        r"unauff(?:ä|ae)llig|gesund|normaal|geen\ afwijkingen",
        r"sin\ hallazgos(?:\ patol[oó]gicos)?|sin\ alteraciones|sanos?|sem\ achados|sem\ altera[cç][oõ]es|saud[aá]vel",
        r"aucune?\ anomalie|sans\ anomalie|sains?|normale?s?|nessun\ reperto|sani|正常|정상|норма",
    )
)
_NEGATIVE = re.compile(
    rf"""none | nothing | normals? | healthy | negatives? | unremarkable
    | (?:normal|healthy)\ (?:{_PEOPLE}|{_PICTURES})
    | (?:negative\ )?controls?
    | (?:no|without)\ ?(?:(?:{_KINDS})\ )*(?:{_NOTHING})
    | nothing\ (?:found|abnormal)
    | {_OTHER_LANGUAGES}""",
    re.VERBOSE,
)
_PAIRS = (("0", "1"), ("false", "true"), ("no", "yes"), ("n", "y"), ("absent", "present"))  # healthy first
_DENIES = re.compile(r"(?:no|without|negative for|free of|absence of) (?P<what>.+)")
_DENIES_THE_OTHER = re.compile(r"(?:non|not) ?(?P<what>.+)")
_LACKS = re.compile(r"(?P<what>.+) (?:negative|absent)")
_HAS = re.compile(r"(?P<what>.+) (?:positive|present)")


def is_negative(name: str) -> bool:
    """Whether a name says by itself that nothing was found, whatever its case, blanks, underscores and hyphens."""
    return _NEGATIVE.fullmatch(_words(name)) is not None


def healthy_among(findings: Sequence[str]) -> list[str]:
    """The classes that could be the healthy one, in their order: of two also what denies the other.

    `no X` and `without X` deny anything; `non-X`, `not X` and `X negative` only what the other class is called, since
    `non-specific opacity` is a finding. What denies a healthy class (`not normal`) is a finding too.
    """
    if len(findings) != 2:
        return [finding for finding in findings if is_negative(finding)]
    return [name for name, other in (findings, findings[::-1]) if _could_be_healthy(_words(name), _words(other))]


def healthy_first(findings: Sequence[str], positive: str | None = None) -> tuple[str, ...]:
    """The classes with those that could be healthy before the others; of two the one that `positive` names is last."""
    if len(findings) == 2 and positive in findings:
        return tuple(sorted(findings, key=lambda finding: finding == positive))
    healthy = healthy_among(findings)
    return tuple(sorted(findings, key=lambda finding: finding not in healthy))


def positive_of(findings: Sequence[str], configured: str | None) -> str | None:
    """The class that sensitivity is of: as given, else of two the one that is not healthy; None of three and more.

    Args:
        findings: The classes of a run.
        configured: The option `pool.positive`.

    Raises:
        InputError: the class given is none of these, or is one of three and more; it is not given, and the names of
            two classes leave open which is the finding; two of three and more say that nothing was found.
    """
    if configured is not None and configured not in findings:
        near = difflib.get_close_matches(_words(configured), [_words(finding) for finding in findings], n=1)
        meant = [finding for finding in findings if near and _words(finding) == near[0]]
        hint = f"did you mean {meant[0]!r}? " if meant else ""
        raise InputError(
            "names no class of this pool",
            value=configured,
            where="pool.positive",
            fix=f"{hint}there are {', '.join(map(repr, findings))}",
        )
    if len(findings) == 2:
        return configured if configured is not None else _other_than_healthy(findings)
    _refuse_of_many(findings, configured)
    return None


def _other_than_healthy(findings: Sequence[str]) -> str:
    healthy = healthy_among(findings)
    if len(healthy) == 1:
        return findings[1 - findings.index(healthy[0])]
    raise InputError(
        ("both classes could be" if healthy else "neither class is known to be")
        + " the healthy one, so it is open whose sensitivity is asked for",
        value=list(findings),
        where="pool.positive",
        fix=f"name the class that is the finding, e.g. --set 'pool.positive=\"{findings[1]}\"'",
    )


def _refuse_of_many(findings: Sequence[str], configured: str | None) -> None:
    if configured is not None:
        raise InputError(
            f"is of two classes; of {len(findings)} every one is measured against the rest, and the means are over all",
            value=configured,
            where="pool.positive",
            fix="leave it out, or make it a question of two classes in the pool's labels",
        )
    healthy = healthy_among(findings)
    if len(healthy) > 1:
        raise InputError(
            "more than one class says that nothing was found",
            value=healthy,
            where="pool.findings",
            fix="give them one name in the pool, or rename the one that is a finding",
        )


def _could_be_healthy(name: str, other: str) -> bool:
    if is_negative(name) or (name, other) in _PAIRS:
        return True
    if denied := _DENIES.fullmatch(name):
        return not is_negative(denied["what"])
    if denied := _DENIES_THE_OTHER.fullmatch(name):
        return not is_negative(denied["what"]) and _same_thing(denied["what"], other)
    if lacked := _LACKS.fullmatch(name):
        had = _HAS.fullmatch(other)
        return other == lacked["what"] or (had is not None and had["what"] == lacked["what"])
    return False


def _same_thing(name: str, other: str) -> bool:
    """Whether one name is the other, or the other with more words: `covid` and `covid 19`."""
    short, long = sorted((name, other), key=len)
    return f"{long} ".startswith(f"{short} ")


def _words(name: str) -> str:
    """A name as it is compared: case, blanks, underscores and hyphens do not matter."""
    return " ".join(re.sub(r"[\s_\-\u2010-\u2015\u2212]+", " ", unicodedata.normalize("NFKC", name)).split()).casefold()
