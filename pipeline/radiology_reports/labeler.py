"""From a report's text to what it says of each finding, by words, cues and their reach.

In the manner of NegEx (Chapman et al., J Biomed Inform 2001) with the uncertainty of CheXpert's labeler (Irvin et al.,
AAAI 2019): in each sentence of the sections that count, a finding's words are denied or left open by the nearest cue
that reaches them. A maintained library would do no better here: negspaCy and medspaCy bring spaCy and a language model,
hundreds of megabytes, for the same algorithm in English alone; pyConTextNLP was last published in 2018; the labelers
of CheXpert and MIMIC are on no index. A rules file of one's own language is what hospitals can keep up.

A report that says two things of a finding says the stronger: present before uncertain before absent. The text is
never kept: what is returned are labels, and the place of the sentence each rests on.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pipeline.radiology_reports.rules import FindingPatterns, Rules, lower
from pipeline.tables.columns import compact

Says = Literal["present", "absent", "uncertain", "not mentioned"]
PRESENT: Says = "present"
ABSENT: Says = "absent"
UNCERTAIN: Says = "uncertain"
NOT_MENTIONED: Says = "not mentioned"
SAYS: tuple[Says, ...] = (PRESENT, UNCERTAIN, ABSENT, NOT_MENTIONED)  # the stronger first
_HEADING = re.compile(r"^[^\S\n]*([^\W\d][\w /&()-]{1,48}?)[^\S\n]*:", re.MULTILINE)
_END = re.compile(r"[.!?;]+(?=\s|$)|\n[^\S\n]*(?=\n|[-*•]|\d+[.)])")
_LAST_WORD = re.compile(r"\S+$")
_FEWEST_LETTERS = 3


@dataclass(frozen=True)
class Statement:
    """What a report says of a finding.

    Attributes:
        says: Of `SAYS`.
        start: Of the sentence it rests on, in characters of the report's text in Unicode's form C; None: of none.
        end: Behind its last character.
    """

    says: Says
    start: int | None = None
    end: int | None = None


def read_report(text: str, rules: Rules) -> dict[str, Statement]:
    """What a report says of every finding of the rules."""
    text = unicodedata.normalize("NFC", text)
    best = {finding.name: Statement(NOT_MENTIONED) for finding in rules.findings}
    for start, end in sentences(text, rules):
        sentence = _Sentence(lower(text[start:end]), rules)
        for finding in rules.findings:
            for says in _mentions(sentence, finding):
                if SAYS.index(says) < SAYS.index(best[finding.name].says):
                    best[finding.name] = Statement(says, start, end)
    return best


def is_blank(text: str | None) -> bool:
    """Whether a report says nothing: no text, or no word in it."""
    return text is None or sum(character.isalpha() for character in text) < _FEWEST_LETTERS


def joined(statements: list[Statement]) -> Statement:
    """What several reports of one scan say together: the stronger, or uncertain where one denies what another sees."""
    kinds = {statement.says for statement in statements}
    strongest = min(statements, key=lambda statement: SAYS.index(statement.says))
    if {PRESENT, ABSENT} <= kinds:
        return Statement(UNCERTAIN, strongest.start, strongest.end)
    return strongest


def sentences(text: str, rules: Rules) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence in the sections that count."""
    for start, end in _sections(text, rules):
        at = start
        for stop in _END.finditer(text, start, end):
            word = _LAST_WORD.search(text[at : stop.end()])
            if word is not None and word[0].lower() in rules.abbreviations:
                continue
            yield from _trimmed(text, at, stop.end())
            at = stop.end()
        yield from _trimmed(text, at, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    own = text[start:end]
    if own.strip():
        yield start + len(own) - len(own.lstrip()), end - (len(own) - len(own.rstrip()))


def _sections(text: str, rules: Rules) -> Iterator[tuple[int, int]]:
    """The parts of a text that count, without their headings.

    A heading that the rules do not know, such as `Lungs:`, goes on with the section it stands in.
    """
    headings = list(_HEADING.finditer(text))
    reads = [_counts(compact(heading[1]), rules) for heading in headings]
    counts, start = not any(reads), 0
    for heading, own in zip(headings, reads, strict=True):
        if own is None:
            continue
        if counts:
            yield start, heading.start()
        counts, start = own, heading.end()
    if counts:
        yield start, len(text)


def _counts(heading: str, rules: Rules) -> bool | None:
    """Whether a section is read; None: the rules do not know it."""
    return True if heading in rules.read else False if heading in rules.skip else None


@dataclass(frozen=True)
class _Cue:
    kinds: frozenset[str]  # see `Rules.cue_kinds`
    start: int
    end: int


@dataclass(frozen=True)
class _Sentence:
    text: str  # in lower case
    rules: Rules

    @cached_property
    def cues(self) -> list[_Cue]:
        """Its cues in order; most sentences name no finding, and are not searched for any."""
        kinds, matches = self.rules.cue_kinds, self.rules.cues.finditer(self.text)
        cues = [_Cue(kinds[(match.lastindex or 1) - 1], match.start(), match.end()) for match in matches]
        return [cue for cue in cues if "none" not in cue.kinds]


def _mentions(sentence: _Sentence, finding: FindingPatterns) -> Iterator[Says]:
    """What each mention of a finding in a sentence says."""
    denied = _spans(sentence, finding.absent)
    yield from (ABSENT for _ in denied)
    others = [*_spans(sentence, finding.ignore), *denied]
    for match in finding.present.finditer(sentence.text):
        if not any(start < match.end() and match.start() < end for start, end in others):
            yield _says(sentence, match.start(), match.end())


def _spans(sentence: _Sentence, pattern: re.Pattern[str] | None) -> list[tuple[int, int]]:
    return [] if pattern is None else [match.span() for match in pattern.finditer(sentence.text)]


def _says(sentence: _Sentence, start: int, end: int) -> Says:
    """What the nearest cue that reaches a mention makes of it."""
    nearest: tuple[int, Says] | None = None
    stops = [cue for cue in sentence.cues if "stop" in cue.kinds]
    for cue in sentence.cues:
        if cue.end <= start:
            side, low, high = "before", cue.end, start
        elif cue.start >= end:
            side, low, high = "after", end, cue.start
        else:  # `heart is not enlarged`
            side, low, high = "", start, start
        distance = len(sentence.text[low:high].split())
        cut = any(low <= stop.start and stop.end <= high for stop in stops)
        for sign, says in (("negated", ABSENT), ("uncertain", UNCERTAIN)):
            reaches = any(kind.startswith(sign) and kind.endswith(side) for kind in cue.kinds) and not cut
            if reaches and distance <= sentence.rules.scope_words and (nearest is None or distance < nearest[0]):
                nearest = distance, says
    return PRESENT if nearest is None else nearest[1]
