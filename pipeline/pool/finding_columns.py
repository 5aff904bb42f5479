"""Independent findings of a manifest: one column of lists, or one column per finding; made one line a scan.

`Effusion|Mass` and `No Finding` in a column `label` is the form of ChestX-ray14; a column of 1, 0, -1 and blanks for
each finding that of CheXpert and MIMIC-CXR, whose -1 (uncertain) counts as unknown here: "U-Ignore" of Irvin et al.
2019. Either way the label of a scan becomes what `finding_line.write` writes, or null where nothing is known.
"""

import difflib
import logging
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts import finding_line
from pipeline.contracts.answers import CANNOT_TELL, REJECTIONS, reply_of
from pipeline.contracts.config import PoolConfig
from pipeline.contracts.errors import InputError
from pipeline.contracts.healthy_class import is_negative
from pipeline.pool import vocabulary

_log = logging.getLogger(__name__)

# N scans, C findings

SIGNS = (
    dict.fromkeys(("1", "1.0", "true", "yes", "present"), "1")
    | dict.fromkeys(("0", "0.0", "false", "no", "absent"), "0")
    | dict.fromkeys(("-1", "-1.0", "?", "uncertain", "unknown"), "?")
)
Read = Callable[[Sequence[str]], pa.Table]
Refuse = Callable[[Sequence[int], str, str], NoReturn]  # rows, what is wrong with them, the way out
_MAX_SHOWN = 5


def columns(
    uri: str, header: Sequence[str], known: Mapping[str, str], config: PoolConfig, read: Read
) -> dict[str, str]:
    """Finding -> its column in the file; empty where the labels are lists in one column, or there are none.

    Args:
        uri: Of the manifest.
        header: Its columns.
        known: Known column -> its name in the file, for those the file has.
        config: The pool's; with `finding` only that one is asked for.
        read: Reads columns of the file, as text; asked only when it is unclear whether there are labels.

    Raises:
        InputError: findings without a column, or columns of findings that nobody named.
    """
    wanted = (config.finding,) if config.finding is not None else config.findings or ()
    _refuse_reserved(wanted)
    others = [name for name in header if name not in known.values()]
    there = {finding: own for finding in wanted if (own := _own_name(finding, others, config)) is not None}
    missing = [finding for finding in wanted if finding not in there]
    mapped = [finding for finding in missing if finding in config.columns]
    if wanted and not missing:
        if "label" in known:
            _log.info("%s: the column %r is skipped, each finding has a column", uri, known["label"])
        return there
    if "label" in known and not mapped:
        if there:
            _log.warning(
                "%s: no column for %s, so the column %r is read and %s skipped",
                uri,
                _listed(missing),
                known["label"],
                _listed(there.values()),
            )
        return {}
    if there or mapped:
        _refuse_missing(uri, missing, [name for name in others if name not in there.values()], config)
    looks = _that_look_like_findings(read, others)
    if wanted and any(_near(config.columns.get(finding, finding), looks) for finding in missing):
        _refuse_missing(uri, missing, looks, config)
    if looks and not wanted:
        raise InputError(
            f"columns look like findings ({_listed(looks)}), and pool.findings names none",
            where=uri,
            fix=f"name those that are, e.g. --set 'pool.findings=[{', '.join(looks[:2])}]'",
        )
    unread = f" ({_listed(looks)} look like findings and are not named in pool.findings)" if looks else ""
    _log.warning("%s: no column of labels%s, all scans count as unlabelled", uri, unread)
    return {}


def labels(
    label: pa.ChunkedArray | None, own: Mapping[str, pa.ChunkedArray], config: PoolConfig, refuse: Refuse
) -> pa.ChunkedArray | None:
    """One line a scan; with `pool.finding` the class of that finding; null where nothing is known.

    Args:
        label: Lists of findings, as text (N); None where the file has no such column.
        own: Finding -> its column, as text (N each); wins where it is not empty.
        config: The pool's.
        refuse: Called with rows that cannot be understood.

    Returns:
        N texts; None where the file says nothing of findings.
    """
    if own:
        return _from_columns(own, config, refuse)
    return label if label is None else _from_lists(label, config, refuse)


def _from_columns(own: Mapping[str, pa.ChunkedArray], config: PoolConfig, refuse: Refuse) -> pa.ChunkedArray:
    num_uncertain, signs_CN = 0, []
    for finding, column in own.items():
        signs = vocabulary.by_value(column, lambda value: SIGNS.get(value.casefold()), pa.string())
        strange = pc.indices_nonzero(pc.and_(pc.is_valid(column), pc.is_null(signs)))
        if len(strange):
            refuse(
                strange.to_pylist(),
                f"the column of {finding!r} says {column[strange[0].as_py()].as_py()!r}",
                "write 1, 0, or -1 or nothing for what is unknown",
            )
        num_uncertain += pc.sum(pc.equal(signs, "?")).as_py() or 0
        codes = vocabulary.by_value(signs, ord, pa.uint8())
        signs_CN.append(pc.fill_null(codes, ord("?")).to_numpy())
    if num_uncertain:
        _log.info("%d values of %s are uncertain (-1 or ?) and count as unknown", num_uncertain, _listed(own))
    # One run of bytes a scan: few distinct ones, however many the scans.
    data = pa.py_buffer(np.stack(signs_CN, axis=1).tobytes())
    rows = pa.FixedSizeBinaryArray.from_buffers(pa.binary(len(own)), len(signs_CN[0]), [None, data])
    encoded = rows.dictionary_encode()
    lines = [_line(dict(zip(own, row.decode(), strict=True)), tuple(own)) for row in encoded.dictionary.to_pylist()]
    meant = pa.array([_asked(line, config.finding) for line in lines], pa.string())
    return pa.chunked_array([pc.take(meant, encoded.indices)])


def _line(signs: Mapping[str, str], findings: Sequence[str]) -> str:
    return finding_line.write({finding: float(sign) for finding, sign in signs.items() if sign != "?"}, findings)


def _from_lists(column: pa.ChunkedArray, config: PoolConfig, refuse: Refuse) -> pa.ChunkedArray:
    texts = pc.unique(column).drop_null().to_pylist()
    named = _named(texts, config.findings or ())
    findings = finding_line.Independent(config.findings or _with(named, config.finding, labelled=bool(texts)))
    left_out = _left_out(named, findings, asked=config.finding)
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


def _left_out(named: Sequence[str], findings: Sequence[str], asked: str | None) -> frozenset[str]:
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
        _log.warning("the labels name %s, which pool.findings leaves out", _listed(outside))
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


def _named(texts: Iterable[str], findings: Sequence[str]) -> list[str]:
    """The findings that lists name, sorted; of several spellings the first. A comma may be part of those given."""
    names: dict[str, str] = {}
    for text in sorted(texts):
        if reply_of(text, ()) is None:  # what is said of the whole scan is no finding
            for part in re.split(finding_line.separators(findings), text):
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


def _own_name(finding: str, header: Sequence[str], config: PoolConfig) -> str | None:
    """The column of a finding: as mapped, else of its name, whatever the case."""
    own = config.columns.get(finding, finding)
    if own in header or finding in config.columns:
        return own if own in header else None
    alike = [name for name in header if finding_line.plain(name) == finding_line.plain(own)]
    return alike[0] if len(alike) == 1 else None


def _that_look_like_findings(read: Read, names: Sequence[str]) -> list[str]:
    """Columns that hold nothing but signs of presence."""
    if not names:
        return []
    table, signs = read(names), pa.array([*SIGNS])
    values = {name: pc.unique(pc.utf8_lower(table[name])).drop_null() for name in names}
    return [
        name
        for name, column_values in values.items()
        if len(column_values) and pc.all(pc.is_in(column_values, signs)).as_py()
    ]


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
