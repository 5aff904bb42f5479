"""The rules file: which words in a report name a finding, which deny it, which leave it open, which sections count.

It is YAML that a radiologist can read and change. Words are written as they stand in a report; case does not matter,
`*` at the end of a word stands for any ending, alone for any word, and `...` for up to four words between two others.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.contracts.errors import InputError
from pipeline.contracts.options.section import Section
from pipeline.tables.columns import compact

BUILT_IN = ("en", "de")
Phrase = Annotated[str, Field(min_length=1, pattern=r"\w")]
Phrases = tuple[Phrase, ...]
_LOWER = str.maketrans({"\u0130": "I"})  # the one letter that is longer in lower case
_GAP = r"(?:\W+\w+){0,4}?\W+"


class SectionRules(Section):
    """Headings, as they stand before a colon."""

    read: Phrases = Field((), description="Sections that are read where a report has one of them; else all of it is.")
    skip: Phrases = Field((), description="Sections that are never read: they tell what was asked, not what is seen.")


class CueRules(Section):
    """Words that change what a finding's words say, in the same sentence."""

    before: Phrases = ()
    before_next: Phrases = Field((), description="Words that reach one word further at most, and over no comma.")
    after: Phrases = ()
    answers: Phrases = Field((), description="Words that deny where they alone follow a colon: `Effusion: none`.")


class StatementRules(Section):
    """Words with which a new statement begins inside a sentence: what a cue before them says ends there.

    They count at the start of a sentence, behind a comma or the like, behind one of `joins`, and right behind the words
    of a finding; so `no mild edema` stays denied, and `no effusion, mild edema` does not.
    """

    joins: Phrases = Field(
        (), description="Words other than a comma behind which a statement can begin, such as `with`."
    )
    starts: Phrases = Field((), description="Words that begin one, such as `mild`.")
    starts_outside_lists: Phrases = Field(
        (), description="Words that begin one unless a word of `list_words` follows, such as `large`."
    )
    list_words: Phrases = Field((), description="Words that go on with a list of what a cue says, such as `or`.")


class FindingRules(Section):
    """The words of one finding."""

    also: Phrases = Field((), description="Other names that a pool may have for the finding.")
    present: Phrases = Field(..., min_length=1, description="Words that name it; cues may deny them or leave it open.")
    absent: Phrases = Field((), description="Words that alone say that it is not there.")
    ignore: Phrases = Field((), description="Words in which those of `present` mean something else.")


class RulesFile(Section):
    """A rules file as written."""

    language: Phrase
    sections: SectionRules = SectionRules()
    abbreviations: Phrases = Field((), description="Words with a full stop that ends no sentence.")
    joining_words: Phrases = Field((), description="Words behind which a sentence goes on in the next line.")
    negation: CueRules
    uncertainty: CueRules
    no_cues: Phrases = Field((), description="Words that look like a cue and are none, such as `no change`.")
    scope_ends: Phrases = Field((), description="Words at which what a cue says ends.")
    new_statements: StatementRules = StatementRules()
    scope_words: int = Field(15, ge=1, le=100, description="Words between a cue and a finding, at most.")
    findings: dict[Phrase, FindingRules] = Field(..., min_length=1)


@dataclass(frozen=True)
class FindingPatterns:
    """The words of one finding, as regular expressions for lower-case text."""

    name: str
    also: tuple[str, ...]
    present: re.Pattern[str]
    absent: re.Pattern[str] | None
    ignore: re.Pattern[str] | None


@dataclass(frozen=True)
class Rules:
    """A rules file, ready to be used.

    Attributes:
        name: `en`, `de`, or the file's name.
        cues: All cues in one expression for lower-case text, longer ones first, each a group.
        cue_kinds: Of each group: `negated_before`, `negated_next`, `negated_after`, the same of `uncertain`, `stop`
            where what a cue says ends, `start` and `unless_list` of what begins a statement (see `StatementRules`),
            `list` of what goes on with a list, `none` of what only looks like a cue.
        joins: The end of a text behind which a statement can begin: nothing, a comma, or a word such as `with`.
        answers: Words that deny alone behind a colon; None: there are none.
        scope_words: Words between a cue and a finding, at most.
        read: Headings of the sections that count, compact.
        skip: Headings of those that never do.
        abbreviations: Lower case, with their full stop.
        joining_words: Lower case; a sentence goes on in the next line behind them.
        findings: In the order of the file.
    """

    name: str
    cues: re.Pattern[str]
    cue_kinds: tuple[frozenset[str], ...]
    joins: re.Pattern[str]
    answers: re.Pattern[str] | None
    scope_words: int
    read: frozenset[str]
    skip: frozenset[str]
    abbreviations: frozenset[str]
    joining_words: frozenset[str]
    findings: tuple[FindingPatterns, ...]

    def for_class(self, class_name: str) -> FindingPatterns | None:
        """The finding that a pool calls by this name; None: the rules do not know it."""
        wanted = compact(class_name)
        return next((own for own in self.findings if wanted in map(compact, (own.name, *own.also))), None)


def load(name: str) -> Rules:
    """Read a rules file.

    Args:
        name: `en`, `de`, or the path of a file.

    Raises:
        InputError: it is not there, no YAML, or holds what the rules do not know; with every mistake of the file.
    """
    path = _place(name)
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        fix = f"give one of {', '.join(BUILT_IN)}, or the path of a file in UTF-8"
        raise InputError("the rules file cannot be read", value=name, where="reports.rules", fix=fix) from error
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        where = f"{path}:{mark.line + 1}" if mark else path
        raise InputError(
            f"is not YAML: {str(getattr(error, 'problem', error)).splitlines()[0]}",
            where=where,
            fix="put quotation marks around words with a colon or a sign in them",
        ) from error
    return compiled(_checked(tree, path), name if name in BUILT_IN else path.name)


def compiled(rules: RulesFile, name: str) -> Rules:
    """The same rules as regular expressions."""
    groups = {
        "none": rules.no_cues,
        "negated_before": rules.negation.before,
        "negated_next": rules.negation.before_next,
        "negated_after": rules.negation.after,
        "uncertain_before": rules.uncertainty.before,
        "uncertain_next": rules.uncertainty.before_next,
        "uncertain_after": rules.uncertainty.after,
        "stop": rules.scope_ends,
        "start": rules.new_statements.starts,
        "unless_list": rules.new_statements.starts_outside_lists,
        "list": rules.new_statements.list_words,
    }
    # Longer cues first: `cannot exclude` is one cue, and not `no` and a word.
    kinds: dict[str, set[str]] = {}
    for kind, phrases in groups.items():
        for phrase in phrases:
            kinds.setdefault(" ".join(lower(phrase).split()), set()).add(kind)
    ranked = sorted(kinds, key=lambda phrase: (-len(phrase), phrase))
    return Rules(
        name=name,
        cues=_between_words(f"({_words(phrase)})" for phrase in ranked) if ranked else re.compile(r"(?!)"),
        cue_kinds=tuple(frozenset(kinds[phrase]) for phrase in ranked),
        joins=_joins(rules.new_statements.joins),
        answers=_answers(rules.negation.answers),
        scope_words=rules.scope_words,
        read=frozenset(map(compact, rules.sections.read)),
        skip=frozenset(map(compact, rules.sections.skip)),
        abbreviations=frozenset(word.lower() for word in rules.abbreviations),
        joining_words=frozenset(map(lower, rules.joining_words)),
        findings=tuple(
            FindingPatterns(finding, own.also, _any(own.present), _optional(own.absent), _optional(own.ignore))
            for finding, own in rules.findings.items()
        ),
    )


def lower(text: str) -> str:
    """Lower case of the same length, in Unicode's form C where the text is."""
    return text.translate(_LOWER).lower()


def _place(name: str) -> Path:
    if name not in BUILT_IN:
        return Path(name).expanduser()
    packed = Path(__file__).with_name(f"{name}.yaml")
    return packed if packed.exists() else Path(__file__).parents[2] / "configs" / "report_rules" / f"{name}.yaml"


def _checked(tree: Any, path: Path) -> RulesFile:
    try:
        return RulesFile.model_validate(_tuples(tree))
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg'].lower()}" for item in error.errors()]
        raise InputError(
            f"the rules cannot be used: {'; '.join(mistakes)}",
            where=path,
            fix="docs/how-to/reports.md tells the keys; words of YAML such as yes and 12 go in quotation marks",
        ) from error


def _tuples(tree: Any) -> Any:
    """Lists as tuples: the schema is strict."""
    if isinstance(tree, dict):
        return {key: _tuples(value) for key, value in tree.items()}
    return tuple(map(_tuples, tree)) if isinstance(tree, list) else tree


def _any(phrases: Iterable[str]) -> re.Pattern[str]:
    return _between_words(map(_words, sorted(phrases, key=len, reverse=True)))


def _optional(phrases: Iterable[str]) -> re.Pattern[str] | None:
    own = tuple(phrases)
    return _any(own) if own else None


def _answers(phrases: Phrases) -> re.Pattern[str] | None:
    """Some words behind a colon, with nothing behind them in their part of the sentence."""
    words = "|".join(_words(phrase) for phrase in sorted(phrases, key=len, reverse=True))
    return re.compile(rf":\s*(?:{words})(?=\s*(?:[.,;!)\n]|$))") if phrases else None


def _joins(phrases: Phrases) -> re.Pattern[str]:
    """The end of a text behind which a statement can begin."""
    words = "".join(rf"|\b{_words(phrase)}" for phrase in phrases)
    return re.compile(rf"(?:\A|[,;:()/–—]|\s-{words})\s*\Z")


def _between_words(alternatives: Iterable[str]) -> re.Pattern[str]:
    """One expression for lower-case text; the border of the word stands first, so that most places fail at once."""
    return re.compile(rf"\b(?:{'|'.join(alternatives)})(?!\w)")


def _words(phrase: str) -> str:
    """`heart ... enlarg*` as a regular expression."""
    halves = []
    for half in lower(phrase).split("..."):
        # A star alone is a whole word: of a part that may be empty, many blanks would be tried in every division.
        words = [r"\w+" if word == "*" else re.escape(word).replace(r"\*", r"\w*") for word in half.split()]
        halves.append(r"[\s-]+".join(words))
    return _GAP.join(half for half in halves if half)
