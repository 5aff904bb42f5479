"""From a report's text to what it says of each finding, by words, cues and their reach.

In the manner of NegEx (Chapman et al., J Biomed Inform 2001) with the uncertainty of CheXpert's labeler (Irvin et al.,
AAAI 2019): in each sentence of the sections that count, a finding's words are denied or left open by the nearest cue
that reaches them. A cue's reach ends at NegEx's words of termination (`but`, `which`), and where a new statement begins:
NegBio (Peng et al., AMIA 2018) and CheXpert's labeler take that from the sentence's grammar (a finding in conjunction
with a denied one is denied), which no small library parses offline; here a word that grades or places a finding behind a
comma begins one (`no effusion, mild edema`), and `or` behind it goes on with the list (`no effusion, large mass or
edema`). A maintained library would do no better here: negspaCy and medspaCy bring spaCy and a language model,
hundreds of megabytes, for the same algorithm in English alone; pyConTextNLP was last published in 2018; the labelers
of CheXpert and MIMIC are on no index. A rules file of one's own language is what hospitals can keep up.

A report that says two things of a finding says the stronger: present before uncertain before absent. The text is
never kept: what is returned are labels, and the place of the sentence each rests on.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pipeline.radiology_reports.rules import FindingPatterns, Rules, lower
from pipeline.radiology_reports.sections import sentences

Says = Literal["present", "absent", "uncertain", "not mentioned"]
PRESENT: Says = "present"
ABSENT: Says = "absent"
UNCERTAIN: Says = "uncertain"
NOT_MENTIONED: Says = "not mentioned"
SAYS: tuple[Says, ...] = (PRESENT, UNCERTAIN, ABSENT, NOT_MENTIONED)  # the stronger first
_SIGNS: tuple[tuple[str, Says], ...] = (("negated", ABSENT), ("uncertain", UNCERTAIN))
_WORD = re.compile(r"\S+")
_PAUSE = re.compile(r"[,:(]")
_ANSWER = frozenset({"negated_after"})
_STOP = frozenset({"stop"})
_STATEMENT = frozenset({"stop", "statement"})
_START = frozenset({"start", "unless_list"})
_FEWEST_LETTERS = 3
_LONGEST_JOIN = 30  # characters: a comma, or a word such as `with`, and blanks


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


@dataclass(frozen=True)
class _Cue:
    kinds: frozenset[str]  # see `Rules.cue_kinds`
    start: int
    end: int


@dataclass(frozen=True)
class _Sentence:
    """A sentence in lower case; what is looked up once for all its mentions, so that work grows with its length."""

    text: str
    rules: Rules

    @cached_property
    def cues(self) -> list[_Cue]:
        """Its cues in order; most sentences name no finding, and are not searched for any."""
        kinds, matches = self.rules.cue_kinds, self.rules.cues.finditer(self.text)
        cues = [_Cue(kinds[(match.lastindex or 1) - 1], match.start(), match.end()) for match in matches]
        return self._with_statements([cue for cue in self._with_answers(cues) if "none" not in cue.kinds])

    @cached_property
    def starts(self) -> list[int]:
        """Where each cue starts."""
        return [cue.start for cue in self.cues]

    @cached_property
    def word_starts(self) -> list[int]:
        """Where each word starts."""
        return [word.start() for word in _WORD.finditer(self.text)]

    @cached_property
    def word_ends(self) -> list[int]:
        """Where each word ends."""
        return [word.end() for word in _WORD.finditer(self.text)]

    def num_words(self, start: int, end: int) -> int:
        """Words in a part of it, those cut by its borders included."""
        if start >= end:
            return 0
        return max(0, bisect_left(self.word_starts, end) - bisect_right(self.word_ends, start))

    def of_kind(self, kind: str) -> tuple[list[_Cue], list[int]]:
        """Its cues of a kind in order, and where each starts."""
        if kind not in self._of_kind:
            own = [cue for cue in self.cues if kind in cue.kinds]
            self._of_kind[kind] = own, [cue.start for cue in own]
        return self._of_kind[kind]

    @cached_property
    def _of_kind(self) -> dict[str, tuple[list[_Cue], list[int]]]:
        return {}

    def _with_answers(self, cues: list[_Cue]) -> list[_Cue]:
        """The cues with those of `Pneumothorax: no`, which reach back to the colon before them."""
        answers = [] if self.rules.answers is None else list(self.rules.answers.finditer(self.text))
        if not answers:
            return cues
        spans = [answer.span() for answer in answers]
        kept = [cue for cue in cues if not _overlaps(spans, cue.start, cue.end)]
        kept += [_Cue(_ANSWER, start, end) for start, end in spans]
        colons = [colon.start() for colon in re.finditer(":", self.text)]
        kept += [_Cue(_STOP, at, at + 1) for at in colons if not _overlaps(spans, at, at + 1)]
        return sorted(kept, key=lambda cue: cue.start)

    @cached_property
    def mention_starts(self) -> list[int]:
        """Where the words of each finding start, whichever it is."""
        return sorted(match.start() for match in self._mentions_of_all)

    @cached_property
    def _mention_ends(self) -> set[int]:
        return {match.end() for match in self._mentions_of_all}

    @cached_property
    def _mentions_of_all(self) -> list[re.Match[str]]:
        return [match for finding in self.rules.findings for match in finding.present.finditer(self.text)]

    def _with_statements(self, cues: list[_Cue]) -> list[_Cue]:
        """The cues with a stop of no length where a new statement begins."""
        kept: list[_Cue] = []
        is_list = False  # whether a list goes on behind this place, before the next cue that says something
        for cue in reversed(cues):
            if not cue.kinds.isdisjoint(_START) and self._can_begin(cue.start):
                if "start" in cue.kinds or not is_list:
                    kept.append(_Cue(_STATEMENT, cue.start, cue.start))
            if "list" in cue.kinds:
                is_list = True
            elif cue.kinds.isdisjoint(_START):
                is_list = False
            if not cue.kinds <= _START:
                kept.append(cue)
        return kept[::-1]

    def _can_begin(self, place: int) -> bool:
        low = max(0, place - _LONGEST_JOIN)
        before = self.text[low:place]
        if self.rules.joins.search(before if low == 0 else " " + before) is not None:
            return True
        return low + len(before.rstrip()) in self._mention_ends


def _mentions(sentence: _Sentence, finding: FindingPatterns) -> Iterator[Says]:
    """What each mention of a finding in a sentence says."""
    denied, ignored = _spans(sentence, finding.absent), _spans(sentence, finding.ignore)
    yield from (ABSENT for _ in denied)
    for match in finding.present.finditer(sentence.text):
        if not _overlaps(denied, *match.span()) and not _overlaps(ignored, *match.span()):
            yield _says(sentence, match.start(), match.end())


def _spans(sentence: _Sentence, pattern: re.Pattern[str] | None) -> list[tuple[int, int]]:
    return [] if pattern is None else [match.span() for match in pattern.finditer(sentence.text)]


def _overlaps(spans: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether one of some spans, which are in order and apart, overlaps a place."""
    before = bisect_left(spans, (end,))
    return before > 0 and spans[before - 1][1] > start


def _says(sentence: _Sentence, start: int, end: int) -> Says:
    """What the nearest cue that reaches a mention makes of it; of each kind only the nearest can."""
    reaching: list[tuple[int, int, Says]] = []  # words between, place, what it says
    first = bisect_left(sentence.starts, start)
    if first and sentence.cues[first - 1].end > start:
        first -= 1
    for cue in sentence.cues[first : bisect_left(sentence.starts, end)]:  # inside: `heart is not enlarged`
        reaching += [(0, cue.start, says) for sign, says in _SIGNS if any(kind.startswith(sign) for kind in cue.kinds)]
    for sign, says in _SIGNS:
        for side in ("before", "next", "after"):
            cues, starts = sentence.of_kind(f"{sign}_{side}")
            place = bisect_left(starts, end) if side == "after" else bisect_right(starts, start) - 1
            if side != "after" and place >= 0 and cues[place].end > start:
                place -= 1
            if not 0 <= place < len(cues):
                continue
            cue = cues[place]
            low, high = (end, cue.start) if side == "after" else (cue.end, start)
            distance = sentence.num_words(low, high)
            if side == "next":
                reaches = distance <= 1 and _PAUSE.search(sentence.text, low, high) is None
            else:
                reaches = distance <= sentence.rules.scope_words
            own_subject = side == "after" and _has_own_subject(sentence, start, low, high)
            if reaches and not own_subject and not _is_cut(sentence, low, high):
                reaching.append((distance, cue.start, says))
    return min(reaching, key=lambda cue: cue[:2])[2] if reaching else PRESENT


def _is_cut(sentence: _Sentence, low: int, high: int) -> bool:
    """Whether a word at which a cue's reach ends stands between it and a mention."""
    stops, starts = sentence.of_kind("stop")
    place = bisect_left(starts, low)
    return place < len(stops) and stops[place].end <= high


def _has_own_subject(sentence: _Sentence, start: int, low: int, high: int) -> bool:
    """Whether a cue behind a mention speaks of another: `mild edema, effusion not seen`.

    Args:
        sentence: With both.
        start: Where the mention starts.
        low: Where it ends.
        high: Where the cue starts.
    """
    _, starts = sentence.of_kind("statement")
    place = bisect_right(starts, start) - 1
    if place < 0 or _PAUSE.search(sentence.text, starts[place], start):
        return False  # it begins no statement, but stands in the list that the cue speaks of
    pause = _PAUSE.search(sentence.text, low, high)
    if pause is None:
        return False
    others = sentence.mention_starts
    other = bisect_left(others, pause.end())
    return other < len(others) and others[other] < high
