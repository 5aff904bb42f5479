"""Independent findings of a manifest: one column of lists, or one column per finding; made one line a scan.

`Effusion|Mass` and `No Finding` in a column `label` is the form of ChestX-ray14; a column of 1, 0, -1 and blanks for
each finding that of CheXpert and MIMIC-CXR, whose -1 (uncertain) counts as unknown here: "U-Ignore" of Irvin et al.
2019. Either way the label of a scan becomes what `finding_line.write` writes, or null where nothing is known.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts import finding_line
from pipeline.contracts.answers import CANNOT_TELL, REJECTIONS, reply_of
from pipeline.contracts.errors import InputError
from pipeline.contracts.healthy_class import is_negative
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool import vocabulary
from pipeline.tables import columns as table_columns
from pipeline.tables.notes import Notes, counted
from pipeline.tables.placeholders import is_placeholder
from pipeline.tables.printed_lists import holds_objects, parts_of_list, signs_of_object

# N scans, C findings

SIGNS = (
    dict.fromkeys(("1", "1.0", "true", "yes", "y", "present", "positive", "pos"), "1")
    | dict.fromkeys(("0", "0.0", "false", "no", "n", "absent", "negative", "neg"), "0")
    | dict.fromkeys(("-1", "-1.0", "?", "uncertain", "unknown"), "?")
    # German, French, Spanish, Italian, Portuguese; a spreadsheet writes `true` in its own language.
    | dict.fromkeys(("ja", "wahr", "oui", "vrai", "sí", "si", "sì", "verdadero", "vero", "sim", "verdadeiro"), "1")
    | dict.fromkeys(("nein", "falsch", "non", "faux", "falso", "não", "nao"), "0")
)
_WHOLE = re.compile(r"^(-?[01])[.,]0+$")  # 1.00, and 1,0 of where a comma stands for the point
Read = Callable[[Sequence[str]], pa.Table]
Refuse = Callable[[Sequence[int], str, str], NoReturn]  # rows, what is wrong with them, the way out
_MAX_SHOWN = 5
_UNCERTAIN = re.compile(r"(^|[|;,]\s*)([^|;,?=]*[^|;,?=\s(])\s*\(?\?\)?(?=\s*(?:[|;,]|$))")  # `mass?` is `?mass`
_WITH_NUMBER = re.compile(r".+?\s*[:(=]\s*\d+(?:[.,]\d+)?\s*%?\)?")
_DENIED = re.compile(
    r"(?:[-\u2013]\s*|(?:no|not|without|kein|keine|sin|sans|geen)\s+)(.+)"
    r"|(.+?)\s*[:=(-]?\s*\b(?:no|not|absent|negative|yes|present|positive|ja|nein)\)?"
)
_QUALIFIERS = re.compile(
    r"\([^)]*\)|\b(small|large|tiny|minimal|trace|mild|moderate|severe|left|right|bilateral|unilateral|possible|probable"
    r"|likely|suspected|suspicion of|questionable|new|old|acute|chronic|stable|increased|improved)\b"
)
_JOINS = re.compile(r"\s*[/+&]\s*|\s+(?:and|und|et|y|e|en|og|och)\s+", re.IGNORECASE)
# What a scan without findings may well show.
_DEVICES = re.compile(
    r"\b(devices?|tubes?|lines?|catheters?|pacemakers?|implants?|hardware|wires?|foreign|prosthes[ei]s|clips?)\b",
    re.IGNORECASE,
)


def sign_of(value: str) -> str | None:
    """What a cell says of a finding: 1, 0, or ? for unknown; None: it is no such sign."""
    return SIGNS.get(_WHOLE.sub(r"\1", value.casefold()))


def _sign_or_unknown(value: str) -> str | None:
    """The same; of a placeholder that it is unknown."""
    return sign_of(value) or ("?" if is_placeholder(value) else None)


def columns(
    uri: str, header: Sequence[str], known: Mapping[str, str], config: PoolConfig, read: Read, notes: Notes
) -> dict[str, str]:
    """Finding -> its column in the file; empty where the labels are lists in one column, or there are none.

    Args:
        uri: Of the manifest.
        header: Its columns.
        known: Known column -> its name in the file, for those the file has.
        config: The pool's; with `finding` only that one is asked for.
        read: Reads columns of the file, as text; asked only when it is unclear whether there are labels.
        notes: Takes what is skipped.

    Raises:
        InputError: findings without a column, or columns of findings that nobody named.
    """
    wanted = (config.finding,) if config.finding is not None else config.findings or ()
    _refuse_reserved(wanted)
    others = [name for name in dict.fromkeys(header) if name and name not in known.values()]
    unread = [name for name in header if name not in known.values()]
    there = {finding: own for finding in wanted if (own := _own_name(uri, finding, unread, config)) is not None}
    missing = [finding for finding in wanted if finding not in there]
    mapped = [finding for finding in missing if finding in config.columns]
    if wanted and not missing:
        if "label" in known:
            notes.mention(f"the column {known['label']!r} is skipped, each finding has a column")
        return there
    if "label" in known and not mapped:
        if there:
            notes.warn(
                f"no column for {_listed(missing)}, so the column {known['label']!r} is read and "
                f"{_listed(there.values())} skipped"
            )
        return {}
    if there or mapped:
        _refuse_missing(uri, missing, [name for name in others if name not in there.values()], config)
    looks = that_look_like_findings(read, others, ())
    if wanted and any(_near(config.columns.get(finding, finding), looks) for finding in missing):
        _refuse_missing(uri, missing, looks, config)
    if looks and not wanted:
        raise InputError(
            f"columns look like findings ({_listed(looks)}), and pool.findings names none",
            where=uri,
            fix=f"name those that are, e.g. --set 'pool.findings=[{', '.join(looks[:2])}]'",
        )
    unnamed = f" ({_listed(looks)} look like findings and are not named in pool.findings)" if looks else ""
    near = table_columns.near("label", others)
    hint = f"; did you mean pool.columns={{label: {near}}}?" if near else ""
    notes.warn(f"no column of labels{unnamed}, all scans count as unlabelled{hint}")
    return {}


def healthy_column(header: Sequence[str], used: Collection[str]) -> str | None:
    """The column that says of the whole scan that nothing was found (`No Finding`); None: there is none."""
    names = [name for name in dict.fromkeys(header) if name not in used and is_negative(name)]
    return names[0] if len(names) == 1 else None


def labels(
    label: pa.ChunkedArray | None,
    own: Mapping[str, pa.ChunkedArray],
    config: PoolConfig,
    refuse: Refuse,
    notes: Notes,
    *,
    healthy: tuple[str, pa.ChunkedArray] | None = None,
) -> pa.ChunkedArray | None:
    """One line a scan; with `pool.finding` the class of that finding; null where nothing is known.

    Args:
        label: Lists of findings, as text (N); None where the file has no such column.
        own: Finding -> its column, as text (N each); wins where it is not empty.
        config: The pool's.
        refuse: Called with rows that cannot be understood.
        notes: Takes what was read in another way than it is written.
        healthy: Name and values (N) of the column that says that nothing was found.

    Returns:
        N texts; None where the file says nothing of findings.
    """
    if own:
        return _from_columns(own, config, refuse, notes, healthy)
    return label if label is None else _from_lists(label, config, refuse, notes)


def _from_columns(
    own: Mapping[str, pa.ChunkedArray],
    config: PoolConfig,
    refuse: Refuse,
    notes: Notes,
    healthy: tuple[str, pa.ChunkedArray] | None,
) -> pa.ChunkedArray:
    num_uncertain, signs_CN = 0, []
    for finding, column in own.items():
        signs = _signs(finding, column, refuse)
        num_uncertain += pc.sum(pc.equal(signs, "?")).as_py() or 0
        codes = vocabulary.by_value(signs, ord, pa.uint8())
        signs_CN.append(pc.fill_null(codes, 0).to_numpy())
    if num_uncertain:
        notes.mention(f"{num_uncertain} values of {_listed(own)} are uncertain (-1 or ?) and count as unknown")
    signs_NC = np.stack(signs_CN, axis=1)
    if healthy is not None:
        is_healthy_N = _healthy_rows(*healthy)
        if is_healthy_N is not None:
            _fill_absent(signs_NC, is_healthy_N, tuple(own), healthy[0], notes)
        else:
            notes.warn(f"the column {healthy[0]!r} holds other things than 1, 0 and blanks, and is not read")
    signs_NC[signs_NC == 0] = ord("?")
    # One run of bytes a scan: few distinct ones, however many the scans.
    data = pa.py_buffer(np.ascontiguousarray(signs_NC).tobytes())
    rows = pa.FixedSizeBinaryArray.from_buffers(pa.binary(len(own)), len(signs_NC), [None, data])
    encoded = rows.dictionary_encode()
    lines = [_line(dict(zip(own, row.decode(), strict=True)), tuple(own)) for row in encoded.dictionary.to_pylist()]
    meant = pa.array([_asked(line, config.finding) for line in lines], pa.string())
    return pa.chunked_array([pc.take(meant, encoded.indices)])


def _signs(finding: str, column: pa.ChunkedArray, refuse: Refuse) -> pa.ChunkedArray:
    """`1`, `0`, `?` where it is said to be unknown, null where nothing is said."""
    signs = vocabulary.by_value(column, _sign_or_unknown, pa.string())
    strange = pc.indices_nonzero(pc.and_(pc.is_valid(column), pc.is_null(signs)))
    if len(strange):
        refuse(
            strange.to_pylist(),
            f"the column of {finding!r} says {column[strange[0].as_py()].as_py()!r}",
            "write 1, 0, or -1 or nothing for what is unknown",
        )
    return signs


def _healthy_rows(name: str, column: pa.ChunkedArray) -> NDArray[np.bool_] | None:
    """Rows in which nothing was found; None where the column holds other things than signs."""
    signs = vocabulary.by_value(column, sign_of, pa.string())
    if signs.null_count > column.null_count:
        return None
    return np.asarray(pc.fill_null(pc.equal(signs, "1"), False))


def _fill_absent(
    signs_NC: NDArray[np.uint8], is_healthy_N: NDArray[np.bool_], findings: Sequence[str], name: str, notes: Notes
) -> None:
    """Where nothing was found, a finding that nothing is said of is absent; devices are no finding of the lungs."""
    asked_C = np.array([_DEVICES.search(finding) is None for finding in findings])
    blank_NC = (signs_NC == 0) & is_healthy_N[:, None] & asked_C
    contradicted = int(((signs_NC == ord("1")) & is_healthy_N[:, None] & asked_C).any(axis=1).sum())
    signs_NC[blank_NC] = ord("0")
    if is_healthy_N.any():
        notes.mention(
            f"{int(is_healthy_N.sum()):,} scans have {name!r}: {int(blank_NC.sum()):,} blank values of findings count "
            "as absent" + ("" if asked_C.all() else ", but not those of devices")
        )
    if contradicted:
        notes.warn(f"{contradicted:,} scans have {name!r} and a finding too; the finding counts")


def _line(signs: Mapping[str, str], findings: Sequence[str]) -> str:
    return finding_line.write({finding: float(sign) for finding, sign in signs.items() if sign != "?"}, findings)


def _from_lists(column: pa.ChunkedArray, config: PoolConfig, refuse: Refuse, notes: Notes) -> pa.ChunkedArray:
    written, column = column, _in_one_form(column, refuse, notes)
    commas = _has_commas(written)
    texts = pc.unique(column).drop_null().to_pylist()
    named = _named(texts, config.findings or (), commas=commas)
    _say_joined(named, config, notes)
    findings = finding_line.Independent(config.findings or _with(named, config.finding, labelled=bool(texts)))
    left_out = _left_out(named, findings, config.finding, notes)
    replies = {text: reply_of(_without(text, left_out, finding_line.separators(findings)), findings) for text in texts}
    strange = [text for text, reply in replies.items() if reply is None or reply in REJECTIONS]
    if strange:
        refuse(
            pc.indices_nonzero(pc.is_in(column, value_set=pa.array(strange))).to_pylist(),
            f"{strange[0]!r} is no list of findings such as {'|'.join(findings[:2])!r}",
            "name what is there, between |, or write No Finding",
        )
    lines = {text: _asked(reply, config.finding) for text, reply in replies.items() if reply not in (None, CANNOT_TELL)}
    return vocabulary.by_value(column, lines.get, pa.string())


def _in_one_form(column: pa.ChunkedArray, refuse: Refuse, notes: Notes) -> pa.ChunkedArray:
    """Lists of findings with `|`, also where Python, JSON or numpy printed them; placeholders and empty ones null."""
    counts = {row["values"]: row["counts"] for row in pc.value_counts(column.drop_null()).to_pylist()}
    objects = _objects(column, counts, refuse, notes)
    lists = {text: parts for text in counts if text not in objects and (parts := parts_of_list(text)) is not None}
    lines = objects | {text: "|".join(parts) or None for text, parts in lists.items()}
    lines |= {text: _between_bars(text) for text in counts if text not in lines}
    if lists:
        num, num_empty = (sum(counts[t] for t in own) for own in (lists, [t for t in lists if not lists[t]]))
        empty = f"; {num_empty:,} empty ones count as unknown" if num_empty else ""
        notes.mention(f"{num:,} labels are printed lists, such as {next(iter(lists))!r}, and read as such{empty}")
    unknown = {t: n for t, n in counts.items() if t not in lists and is_placeholder(t)}
    if unknown:
        shown = ", ".join(f"{text!r} {num}" for text, num in sorted(unknown.items(), key=lambda item: -item[1])[:8])
        notes.warn(f"{sum(unknown.values()):,} labels are placeholders and count as unknown: {shown}")
    return vocabulary.by_value(column, lambda t: None if t in unknown else lines.get(t, t), pa.string())


def _between_bars(text: str) -> str:
    """Findings in lines of their own, or with a separator behind the last one, as others write them."""
    text = re.sub(r"\s*[\r\n]+\s*", "|", text).strip(" \t|;,")
    return _UNCERTAIN.sub(r"\1?\2", text)


def _objects(column: pa.ChunkedArray, texts: Mapping[str, int], refuse: Refuse, notes: Notes) -> dict[str, str | None]:
    """Labels that are printed objects such as `{"Edema": 1, "Mass": 0}` -> full lines, where all values are signs."""
    objects = {text: signs for text in texts if (signs := signs_of_object(text)) is not None}
    lines: dict[str, str | None] = {}
    for text, signs in objects.items():
        meant = {name: _sign_or_unknown(value) for name, value in signs.items()}
        if None not in meant.values():
            lines[text] = "|".join(f"{name}={sign}" for name, sign in meant.items()) or None
    strange = [text for text in texts if holds_objects(text) or (text in objects and text not in lines)]
    if strange:
        refuse(
            pc.indices_nonzero(pc.is_in(column, value_set=pa.array(strange))).to_pylist(),
            "labels are objects of a program, and no names of findings",
            "write the findings between |, or a column for each with 1, 0 and blank",
        )
    if lines:
        num = counted(sum(texts[text] for text in lines), "label")
        notes.mention(f"{num} are printed objects with a sign for each finding, and read as such")
    return lines


def _say_joined(named: Sequence[str], config: PoolConfig, notes: Notes) -> None:
    """Point at findings such as `Effusion + Mass` beside `Mass`, which a scan with both would count as lacking.

    Raises:
        InputError: one of them holds a finding that is asked for, and is not asked for itself.
    """
    asked = {finding_line.plain(name) for name in config.findings or ()}
    single = {finding_line.plain(name) for name in named} | asked
    joined = {}
    for name in named:
        if _WITH_NUMBER.fullmatch(name) and finding_line.plain(name) not in asked:
            raise InputError(
                "a label holds a number beside the name of a finding",
                value=name,
                where="pool.findings",
                fix="write the names of what is there alone, or a column for each finding with 1, 0 and blank",
            )
        parts = [finding_line.plain(part) for part in _JOINS.split(name)]
        inside = [part for part in parts if len(parts) > 1 and part in single] or _denied(name, single)
        if inside := inside or _qualified(name, single) or _side_by_side(name, single):
            joined[name] = inside
    outside = [name for name, inside in joined.items() if finding_line.plain(name) not in asked and asked & {*inside}]
    if outside:
        raise InputError(
            f"a label speaks of {joined[outside[0]][0]!r} in a way that is not read",
            value=outside[0],
            where="pool.findings",
            fix="name the findings that are there, with | between them, or add this one to pool.findings",
        )
    unsaid = [name for name in joined if finding_line.plain(name) not in asked]
    if unsaid:
        first = unsaid[0]
        notes.warn(
            f"findings are taken as they are written: {_listed(unsaid)} count as findings of their own, and not as "
            f"{joined[first][0]!r}; name the findings that are there, with | between them"
        )


def _denied(name: str, others: Collection[str]) -> list[str]:
    """The finding that a name such as `no mass`, `mass: no` and `-mass` speaks of."""
    match = _DENIED.fullmatch(finding_line.plain(name))
    return [part for part in (match.groups() if match else ()) if part in others]


def _qualified(name: str, others: Collection[str]) -> list[str]:
    """The finding that `effusion (small)`, `left effusion` and `possible mass` speak of."""
    bare = " ".join(_QUALIFIERS.sub(" ", finding_line.plain(name)).split())
    return [bare] if bare != finding_line.plain(name) and bare in others else []


def _side_by_side(name: str, others: Collection[str]) -> list[str]:
    """The findings that a name is made of with nothing but signs and blanks between them: `Effusion Mass`."""
    whole = left = finding_line.plain(name).replace("\\n", " ")
    inside: list[str] = []
    for other in sorted(others, key=len, reverse=True):
        shorter = re.sub(rf"(?<!\w){re.escape(other)}(?!\w)", " ", left)
        if other != whole and shorter != left:
            left, inside = shorter, [*inside, other]
    return inside if len(inside) > 1 and not any(map(str.isalnum, left)) else []


def _has_commas(column: pa.ChunkedArray) -> bool:
    """Whether a comma may separate findings: not where one stands inside an entry of a printed list."""
    lists = (parts_of_list(text) for text in pc.unique(column).drop_null().to_pylist())
    return not any("," in part for parts in lists for part in parts or ())


def _left_out(named: Sequence[str], findings: Sequence[str], asked: str | None, notes: Notes) -> frozenset[str]:
    """Findings that the labels name and nobody asked for, as they are compared; said once.

    Raises:
        InputError: one that is asked for is not named, and one of these looks like it.
    """
    named_columns = {finding_line.plain(finding) for finding in findings}
    outside = [name for name in named if finding_line.plain(name) not in named_columns]
    for finding in (findings if asked is None else (asked,)) if outside else ():
        near = None if finding_line.plain(finding) in map(finding_line.plain, named) else _near(finding, outside)
        if near:
            raise InputError(
                "no label names this finding", value=finding, where="pool.findings", fix=f"did you mean {near!r}?"
            )
    if outside and asked is None:
        notes.warn(f"the labels name {_listed(outside)}, which pool.findings leaves out")
    return frozenset(finding_line.plain(name) for name in outside)


def _without(text: str, left_out: Collection[str], separators: str) -> str:
    """A list of findings without some of them; `no finding` where nothing else is named."""
    if not left_out:
        return text
    parts = re.split(separators, text)
    kept = [part for part in parts if finding_line.plain(re.sub(r"=[01?]$", "", part).lstrip(" ?")) not in left_out]
    nothing = (
        CANNOT_TELL if all("=" in part for part in parts) else finding_line.NONE
    )  # a full line is silent on the rest
    return text if len(kept) == len(parts) else "|".join(kept) or nothing


def _with(named: Sequence[str], asked: str | None, *, labelled: bool) -> tuple[str, ...]:
    """The findings that a column of lists names; the one that is asked for under the name it is asked for by.

    Raises:
        InputError: there are labels, and they name none, or not the one asked for.
    """
    if asked is not None and finding_line.plain(asked) not in map(finding_line.plain, named) and labelled:
        raise InputError(
            f"no label names {asked!r}, so nobody may have looked for it",
            value=list(named[:_MAX_SHOWN]),
            where="pool.finding",
            fix=f"name all that were looked for in pool.findings, {asked} among them, where no scan shows it",
        )
    if not named and labelled:
        raise InputError(
            "the labels name no finding",
            where="pool.findings",
            fix="name those that were looked for, e.g. --set 'pool.findings=[effusion, nodule]'",
        )
    return tuple(
        asked if asked is not None and finding_line.plain(name) == finding_line.plain(asked) else name for name in named
    )


def _named(texts: Iterable[str], findings: Sequence[str], *, commas: bool = True) -> list[str]:
    """The findings that lists name, sorted; of several spellings the first. A comma may be part of those given."""
    names: dict[str, str] = {}
    for text in sorted(texts):
        if reply_of(text, ()) is None:  # what is said of the whole scan is no finding
            for part in re.split(finding_line.separators(findings) if commas else r"[|;]", text):
                name = " ".join(re.sub(r"=[01?]$", "", part).strip().removeprefix("?").split())
                if name and not is_negative(name):
                    names.setdefault(finding_line.plain(name), name)
    return sorted(names.values())


def _asked(line: str, finding: str | None) -> str | None:
    """What a line says of one finding as a class, or of all of them; None where it says nothing."""
    if finding is not None:
        return finding_line.class_of(line, finding)
    return line if not all(math.isnan(value) for value in finding_line.read(line).values()) else None


def _refuse_reserved(findings: Sequence[str]) -> None:
    strange = [finding for finding in findings if set(finding) & set(finding_line.RESERVED)]
    if strange:
        raise InputError(
            f"a finding may not hold {' '.join(finding_line.RESERVED)}",
            value=strange[0],
            where="pool.findings",
            fix="give it another name, and its column in pool.columns",
        )


def _own_name(uri: str, finding: str, header: Sequence[str], config: PoolConfig) -> str | None:
    """The column of a finding: as mapped, else of its name; blanks, case and `_` do not matter."""
    place = table_columns.find(header, config.columns.get(finding, finding), uri)
    return None if place is None else header[place]


def that_look_like_findings(read: Read, header: Sequence[str], known: Collection[str]) -> list[str]:
    """Columns that hold nothing but signs of presence; `No Finding` is none."""
    names = [name for name in dict.fromkeys(header) if name and name not in known and not is_negative(name)]
    if not names:
        return []
    table = read(names)
    values = {name: pc.unique(table[name]).drop_null().to_pylist() for name in names}
    return [name for name, own in values.items() if own and all(sign_of(value) is not None for value in own)]


def _refuse_missing(uri: str, missing: Sequence[str], header: Sequence[str], config: PoolConfig) -> NoReturn:
    own = [config.columns.get(finding, finding) for finding in missing]
    near = {f: name for f, wanted in zip(missing, own, strict=True) if (name := _near(wanted, header))}
    mapping = ", ".join(f"{finding}: {name}" for finding, name in near.items())
    raise InputError(
        f"no column for the findings {_listed(own)}",
        where=uri,
        fix=f"did you mean pool.columns={{{mapping}}}?"
        if near
        else f"name their columns in pool.columns, add an empty one for a finding that nobody has looked for yet, "
        f"or leave it out of pool.findings; there are {_listed(header)}",
    )


def _near(name: str, names: Sequence[str]) -> str | None:
    plain = {finding_line.plain(candidate): candidate for candidate in names}
    close = difflib.get_close_matches(finding_line.plain(name), plain, n=1, cutoff=0.5)
    return plain[close[0]] if close else None


def _listed(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names]
    more = [f"{len(shown) - _MAX_SHOWN} more"] if len(shown) > _MAX_SHOWN else []
    return ", ".join([*shown[:_MAX_SHOWN], *more]) or "no others"
