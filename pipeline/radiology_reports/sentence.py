"""A sentence of a report and its cues: what denies a finding or leaves it open, and where what it says ends.

A cue's reach ends at NegEx's words of termination (Chapman et al., J Biomed Inform 2001; `but`, `which`), and where a
new statement begins. NegBio (Peng et al., AMIA 2018) and CheXpert's labeler take that from the sentence's grammar: a
finding in conjunction with a denied one is denied. No small library parses that offline; here a word that grades or
places a finding behind a comma begins a statement (`no effusion, mild edema`), unless `or` goes on with the list (`no
effusion, large mass or edema`). Bare names at the end of a sentence go on with an earlier list too (`no effusion, mild
edema, pneumothorax`): a denied finding taken for present does more harm than one missed. Where a word that may begin
a statement stands before such names (`no pneumothorax, small effusion, cardiomegaly`) nothing tells which it is: they
are left open.
"""

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property

from pipeline.radiology_reports.rules import Rules

_WORD = re.compile(r"\S+")
_ANSWER = frozenset({"negated_after"})
_STOP = frozenset({"stop"})
_STATEMENT = frozenset({"statement"})
_START = frozenset({"start", "unless_list"})
_DOUBTFUL = frozenset({"doubtful"})
_SLASH = re.compile(r"[^\W\d]/[^\W\d]")  # `effusion/pneumothorax` goes on with a list as `or` does
_SAYS_NOTHING = frozenset({"start", "unless_list", "list"})
_LAST_WORD = re.compile(r"[^\W\d_][\w-]*\Z")
_LONGEST_SEPARATOR = 60  # characters: a comma, `or`, a word, and blanks
_LONGEST_JOIN = 30  # characters: a comma, or a word such as `with`, and blanks


@dataclass(frozen=True)
class Cue:
    """Words in a sentence that change what a finding's words say; `kinds` are those of `Rules.cue_kinds`."""

    kinds: frozenset[str]
    start: int
    end: int


@dataclass(frozen=True)
class Sentence:
    """A sentence in lower case; what is looked up once for all its mentions, so that work grows with its length."""

    text: str
    rules: Rules

    @cached_property
    def cues(self) -> list[Cue]:
        """Its cues in order; most sentences name no finding, and are not searched for any."""
        kinds, matches = self.rules.cue_kinds, self.rules.cues.finditer(self.text)
        cues = [Cue(kinds[(match.lastindex or 1) - 1], match.start(), match.end()) for match in matches]
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

    def of_kind(self, kind: str) -> tuple[list[Cue], list[int]]:
        """Its cues of a kind in order, and where each starts."""
        if kind not in self._of_kind:
            own = [cue for cue in self.cues if kind in cue.kinds]
            self._of_kind[kind] = own, [cue.start for cue in own]
        return self._of_kind[kind]

    @cached_property
    def _of_kind(self) -> dict[str, tuple[list[Cue], list[int]]]:
        return {}

    def _with_answers(self, cues: list[Cue]) -> list[Cue]:
        """The cues with those of `Pneumothorax: no`, which reach back to the colon before them."""
        answers = [] if self.rules.answers is None else list(self.rules.answers.finditer(self.text))
        if not answers:
            return cues
        spans = [answer.span() for answer in answers]
        kept = [cue for cue in cues if not overlaps(spans, cue.start, cue.end)]
        kept += [Cue(_ANSWER, start, end) for start, end in spans]
        colons = [colon.start() for colon in re.finditer(":", self.text)]
        kept += [Cue(_STOP, at, at + 1) for at in colons if not overlaps(spans, at, at + 1)]
        return sorted(kept, key=lambda cue: cue.start)

    @cached_property
    def mention_starts(self) -> list[int]:
        """Where the words of each finding start, whichever it is."""
        return sorted(match.start() for match in self._mentions_of_all)

    @cached_property
    def _start_of_end(self) -> dict[int, int]:
        """Where the longest mention starts, by where it ends."""
        return {end: -start for end, start in sorted((match.end(), -match.start()) for match in self._mentions_of_all)}

    @cached_property
    def tail(self) -> tuple[int, bool, bool]:
        """The bare names that end it, `pneumothorax or mass` of `no effusion, mild edema, pneumothorax or mass`.

        Returns:
            Where they start, its length if there are none; whether a finding stands right before them; whether `or`
            behind a comma joins them to it.
        """
        start, is_joined = len(self.text), False
        end = len(self.text.rstrip(" .!;)"))
        while end in self._start_of_end:
            separator = self.separator_before(self._start_of_end[end])
            if separator is None or separator[0] == 0:
                break
            start = self._start_of_end[end]
            end, is_joined = separator
        return start, end in self._start_of_end, is_joined

    def separator_before(self, start: int) -> tuple[int, bool] | None:
        """What divides a name from what stands before it in a list, with at most a word between that grades nothing.

        Args:
            start: Where the name starts.

        Returns:
            Where the separator starts, 0 at the start of the sentence; whether it is a comma and a word such as `or`.
            None: the name is not bare.
        """
        low = max(0, start - _LONGEST_SEPARATOR)
        before = self.text[low:start].rstrip()
        last = _LAST_WORD.search(before)
        if last is not None and not self._kinds_of(last[0]):
            before = before[: last.start()].rstrip()
            last = _LAST_WORD.search(before)
        is_or = last is not None and "list" in self._kinds_of(last[0])
        if last is not None and is_or:
            before = before[: last.start()].rstrip()
        has_pause = before.endswith((",", "/"))
        if not (is_or or has_pause or low + len(before) == 0):
            return None
        return low + len(before[:-1] if has_pause else before), is_or and before.endswith(",")

    def _kinds_of(self, word: str) -> frozenset[str]:
        match = self.rules.cues.fullmatch(word)
        return frozenset() if match is None else self.rules.cue_kinds[(match.lastindex or 1) - 1]

    @cached_property
    def _mentions_of_all(self) -> list[re.Match[str]]:
        return [match for finding in self.rules.findings for match in finding.present.finditer(self.text)]

    def _with_statements(self, cues: list[Cue]) -> list[Cue]:
        """The cues with marks of no length where a new statement begins, and where it may or may not."""
        kept: list[Cue] = []
        is_list, following = False, len(self.text)  # whether a list goes on before the next cue that says something
        tail_start, is_beside_tail, is_joined = self.tail
        in_tail = is_beside_tail and tail_start < len(self.text)  # whether that list is the bare names at the end
        cue_ends = {cue.end for cue in cues if not cue.kinds <= _START}
        for cue in reversed(cues):
            is_start = not cue.kinds.isdisjoint(_START)
            is_list = _SLASH.search(self.text, cue.end, following) is not None or is_list
            in_tail = in_tail and cue.kinds <= _SAYS_NOTHING
            is_before_tail = in_tail and cue.start < tail_start
            if "start" in cue.kinds:
                may_begin = not (is_before_tail and is_joined)
            else:
                may_begin = is_start and not is_list and not is_before_tail
            is_doubtful = is_start and not may_begin and is_before_tail and not is_joined and not is_list
            if (may_begin or is_doubtful) and self._can_begin(cue.start, cue_ends):
                kept.append(Cue(_STATEMENT if may_begin else _DOUBTFUL, cue.start, cue.start))
            if not is_start:
                is_list = "list" in cue.kinds
            if not cue.kinds <= _START:
                kept.append(cue)
            following = cue.start
        return kept[::-1]

    def _can_begin(self, place: int, cue_ends: set[int]) -> bool:
        """Whether a statement can begin at a place, as far as what stands before it tells."""
        low = max(0, place - _LONGEST_JOIN)
        before = self.text[low:place]
        end = low + len(before.rstrip())
        if end in cue_ends:
            return False  # `compatible with mild edema`
        return self.rules.joins.search(before if low == 0 else " " + before) is not None or end in self._start_of_end


def overlaps(spans: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether one of some spans, which are in order and apart, overlaps a place."""
    before = bisect_left(spans, (end,))
    return before > 0 and spans[before - 1][1] > start
