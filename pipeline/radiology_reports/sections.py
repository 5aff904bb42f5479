"""Which parts of a report are read, and where each sentence in them begins and ends.

Reports come in every form that systems export: a heading a line, all on one line, with tags or stars around the
headings, with lines that end in CR. All places are kept: what is returned are places in the text as it was given.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.radiology_reports.rules import Rules
from pipeline.tables.columns import compact

_CRLF = re.compile(r"\r\n?")
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)\b[^<>\n]*>")
_BREAKING_TAGS = ("br", "p", "div", "li", "tr", "h1", "h2", "h3", "h4")
_LINE = re.compile(r"^.*$", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[^\S\n]*(?=\n)")
_WORD_START = re.compile(r"(?<!\w)[^\W\d]")
_END = re.compile(r"(?<![.!?;])[.!?;]+(?=\s|$)|\n[^\S\n]*(?=\S|\n)")
_LIST_ITEM = re.compile(r"[-*•]|\d{1,3}[.)]")
_LONGEST_HEADING = 50  # characters
_WRAPPED = 60  # characters: a line that its next word would have made longer than this was broken to fit


@dataclass(frozen=True)
class _Heading:
    start: int
    end: int
    is_read: bool


def sentences(text: str, rules: Rules) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence in the sections that count."""
    text = _in_plain_lines(text)
    longest = max(map(len, rules.abbreviations), default=0)
    for start, end in _sections(text, rules):
        at = start
        for stop in _END.finditer(text, start, end):
            if text[stop.start()] == "\n":
                ends = _ends_at_line(text, at, stop.start(), stop.end(), end, rules)
            else:
                # No more of the text than an abbreviation is long: a word may be as long as the report.
                words = text[max(at, stop.end() - longest - 1) : stop.end()].split()
                ends = not words or words[-1].lower() not in rules.abbreviations
            if ends:
                yield from _trimmed(text, at, stop.end())
                at = stop.end()
        yield from _trimmed(text, at, end)


def _in_plain_lines(text: str) -> str:
    """The same without tags and CR, every character at its place."""

    def blank(tag: re.Match[str]) -> str:
        first = "\n" if tag[1].lower() in _BREAKING_TAGS else " "
        return first + " " * (len(tag[0]) - 1)

    text = _CRLF.sub(lambda end: " \n" if len(end[0]) == 2 else "\n", text)
    return _TAG.sub(blank, text)


def _ends_at_line(text: str, start: int, line_end: int, next_line: int, end: int, rules: Rules) -> bool:
    """Whether a sentence ends with a line: the next is blank, an item of a list, or begins anew with a capital.

    A line that was broken to fit its width goes on in the next; so does one that ends in a comma or such as `of`.
    """
    if next_line >= end or text[next_line] == "\n" or _LIST_ITEM.match(text, next_line):
        return True
    if not text[next_line].isupper():
        return False
    low = max(start, line_end - _WRAPPED)
    line = text[max(low, text.rfind("\n", low, line_end) + 1) : line_end].rstrip()
    if not line:
        return True
    next_word = text[next_line : next_line + _WRAPPED].split(None, 1)[0]
    if len(line) + 1 + len(next_word) > _WRAPPED:
        return False
    return line[-1] not in ",-/(" and line.split()[-1].lower() not in rules.joining_words


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    own = text[start:end]
    if own.strip():
        yield start + len(own) - len(own.lstrip()), end - (len(own) - len(own.rstrip()))


def _sections(text: str, rules: Rules) -> Iterator[tuple[int, int]]:
    """The parts of a text that count, without their headings.

    A heading that the rules do not know, such as `Lungs:`, goes on with the section it stands in. A section that is
    never read ends at a blank line below its words: what follows counts where nothing else of the report is a section
    that is read.
    """
    headings = _headings(text, rules)
    is_all = not any(heading.is_read for heading in headings)
    counts, start = is_all, 0
    for heading in [*headings, _Heading(len(text), len(text), False)]:
        if not counts and is_all:
            start = _end_of_paragraph(text, start, heading.start)
        if counts or is_all:
            yield start, heading.start
        counts, start = heading.is_read, heading.end


def _end_of_paragraph(text: str, start: int, end: int) -> int:
    """Where the first paragraph with words in it ends."""
    while start < end and text[start].isspace():
        start += 1
    blank = _BLANK_LINE.search(text, start, end)
    return end if blank is None else blank.end()


def _headings(text: str, rules: Rules) -> list[_Heading]:
    """Headings that the rules know, in order: before a colon, or alone in a line."""
    heading_at = {}
    for colon in re.finditer(":", text):
        heading = _before_colon(text, colon.start(), rules)
        if heading is not None:
            heading_at[heading.start] = heading
    for line in _LINE.finditer(text):
        own = line[0].strip(" \t*_#")
        if 0 < len(own) <= _LONGEST_HEADING and own[0].isupper() and own[-1].isalpha():
            is_read = _is_read(own, rules)
            if is_read is not None:
                heading_at[line.start()] = _Heading(line.start(), line.end(), is_read)
    return [heading_at[start] for start in sorted(heading_at)]


def _before_colon(text: str, colon: int, rules: Rules) -> _Heading | None:
    """The longest heading before a colon that begins a line or sentence, or is written in capitals alone."""
    low = max(0, colon - _LONGEST_HEADING)
    low = max(low, text.rfind("\n", low, colon) + 1)
    end = low + len(text[low:colon].rstrip("*_ \t"))
    last = compact("".join(text[low:end].rsplit(None, 1)[-1:]))
    if not any(name.endswith(last) for name in (rules.read | rules.skip) if last):
        return None  # most colons stand behind no heading: the other words before them need no look
    for word in _WORD_START.finditer(text, low, end):
        name = text[word.start() : end]
        is_read = _is_read(name, rules)
        if is_read is None:
            continue
        before = text[low : word.start()].rstrip(" \t")
        is_first = not any(map(str.isalnum, before)) and (low == 0 or text[low - 1] == "\n")
        # `LIMITED EXAM:` is not the heading `EXAM`, but of a report in capitals `COUGH FINDINGS:` holds one.
        is_in_capitals = name.isupper() and (is_read or not before.split()[-1:] or not before.split()[-1].isupper())
        if is_first or before[-1:] in tuple(".;:!?>*#|)") or is_in_capitals:
            return _Heading(word.start(), colon + 1, is_read)
    return None


def _is_read(heading: str, rules: Rules) -> bool | None:
    """Whether a section is read; None: the rules do not know it."""
    name = compact(heading)
    return True if name in rules.read else False if name in rules.skip else None
