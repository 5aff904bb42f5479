"""From a report's text to what it says of each finding, by words, cues and their reach.

In the manner of NegEx (Chapman et al., J Biomed Inform 2001) with the uncertainty of CheXpert's labeler (Irvin et al.,
AAAI 2019): in each sentence of the sections that count, a finding's words are denied or left open by the nearest cue
that reaches them; `sentence` tells how far that is. A maintained library would do no better here: negspaCy and
medspaCy bring spaCy and a language model, hundreds of megabytes, for the same algorithm in English alone; pyConTextNLP
was last published in 2018; the labelers of CheXpert and MIMIC are on no index. A rules file of one's own language is
what hospitals can keep up.

A report that says two things of a finding says the stronger: present before uncertain before absent. The text is
never kept: what is returned are labels, and the place of the sentence each rests on.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.radiology_reports.rules import FindingPatterns, Rules, lower
from pipeline.radiology_reports.sections import sentences
from pipeline.radiology_reports.sentence import Cue, Sentence, overlaps

Says = Literal["present", "absent", "uncertain", "not mentioned"]
PRESENT: Says = "present"
ABSENT: Says = "absent"
UNCERTAIN: Says = "uncertain"
NOT_MENTIONED: Says = "not mentioned"
SAYS: tuple[Says, ...] = (PRESENT, UNCERTAIN, ABSENT, NOT_MENTIONED)  # the stronger first
_SIGNS: tuple[tuple[str, Says], ...] = (("negated", ABSENT), ("uncertain", UNCERTAIN))
_PAUSE = re.compile(r"[,:(]")
_GOES_ON = re.compile(r"\s*[,/]")  # a list, behind a name
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
        sentence = Sentence(lower(text[start:end]), rules)
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


def _mentions(sentence: Sentence, finding: FindingPatterns) -> Iterator[Says]:
    """What each mention of a finding in a sentence says."""
    denied, ignored = _spans(sentence, finding.absent), _spans(sentence, finding.ignore)
    yield from (ABSENT for _ in denied)
    for match in finding.present.finditer(sentence.text):
        if not overlaps(denied, *match.span()) and not overlaps(ignored, *match.span()):
            yield _says(sentence, match.start(), match.end())


def _spans(sentence: Sentence, pattern: re.Pattern[str] | None) -> list[tuple[int, int]]:
    return [] if pattern is None else [match.span() for match in pattern.finditer(sentence.text)]


def _says(sentence: Sentence, start: int, end: int) -> Says:
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
            is_cut = _is_cut(sentence, low, high) or _is_of_another_statement(sentence, start, end, cue)
            if reaches and not own_subject and not is_cut:
                is_open = side != "after" and _may_be_of_another_statement(sentence, low, high)
                reaching.append((distance, cue.start, UNCERTAIN if is_open else says))
    return min(reaching, key=lambda cue: cue[:2])[2] if reaching else PRESENT


def _is_cut(sentence: Sentence, low: int, high: int) -> bool:
    """Whether a word at which a cue's reach ends stands between it and a mention."""
    stops, starts = sentence.of_kind("stop")
    place = bisect_left(starts, low)
    return place < len(stops) and stops[place].end <= high


def _is_of_another_statement(sentence: Sentence, start: int, end: int, cue: Cue) -> bool:
    """Whether a statement begins between a cue and a mention, and the list that the cue speaks of is over.

    Args:
        sentence: With both.
        start: Where the mention starts.
        end: Where it ends.
        cue: Before or behind it.
    """
    _, starts = sentence.of_kind("statement")
    low, high = (end, cue.start) if cue.start >= end else (cue.end, start)
    place = bisect_right(starts, high) - 1
    if place < 0 or starts[place] < low:
        return False
    if (
        high == start
    ):  # `no effusion, mild edema, pneumothorax`: the bare name behind the statement goes on with the list
        others, tail_start = sentence.mention_starts, sentence.tail[0]
        other = bisect_left(others, starts[place])
        return start < tail_start or other == len(others) or others[other] >= tail_start
    # `Pneumothorax, small effusion are not seen`: so does the bare name before it, where the cue speaks of both.
    is_bare = _GOES_ON.match(sentence.text, end) is not None and sentence.separator_before(start) is not None
    return not is_bare or _PAUSE.search(sentence.text, starts[place], high) is not None


def _may_be_of_another_statement(sentence: Sentence, low: int, high: int) -> bool:
    """Whether a statement may begin between a cue and a mention behind it: `no pneumothorax, small effusion, mass`."""
    _, places = sentence.of_kind("doubtful")
    place = bisect_left(places, low)
    return place < len(places) and places[place] <= high


def _has_own_subject(sentence: Sentence, start: int, low: int, high: int) -> bool:
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
