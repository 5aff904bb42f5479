"""`audit.json` as the pages show it: tolerant of parts that are missing, in the order a reader needs."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import RunDirError
from pipeline.pages.wording import count, decimal, known, plural, words
from pipeline.runtime import run_files

Row = dict[str, Any]
VERDICTS = ("valid", "caution", "invalid")
_NAMED = 4  # titles in the sentence under the verdict


@dataclass(frozen=True)
class CheckRow:
    """One check; see `pipeline.audit.check.Check` for the fields."""

    id: str
    title: str
    severity: str = "ok"
    count: int = 0
    value: float | None = None
    threshold: float | None = None
    message: str = ""
    why: str = ""
    fix: str = ""
    evidence: list[Row] = field(default_factory=list)
    table: Row | None = None
    checked: bool = True
    accepted: str | None = None

    @property
    def group(self) -> str:
        """block, warn, unchecked or ok: the part of the page it stands in."""
        if self.severity == "block":
            return "block"
        return self.severity if self.checked else "unchecked"

    @property
    def measured(self) -> str:
        """The number against its threshold, in words; empty where the check has none."""
        if self.value is None or not known(self.value):
            return ""
        if self.threshold is None or not known(self.threshold):
            return count(self.value) if _is_whole(self.value) and abs(self.value) > 1 else decimal(self.value)
        are_counts = _is_whole(self.value) and _is_whole(self.threshold)  # else shares or AUROCs
        write = count if are_counts else decimal
        direction = "at least" if self.id in _LIMITED_BELOW else "at most"
        return f"{write(self.value)}, where {direction} {write(self.threshold)} is wanted"

    @property
    def text_columns(self) -> list[bool]:
        """Of the table's columns, whether one holds words."""
        rows = (self.table or {}).get("rows") or []
        width = max([len((self.table or {}).get("columns") or []), *map(len, rows)])
        return [any(isinstance(v, str | bool) for row in rows for v in row[i : i + 1]) for i in range(width)]


# Checks whose number should not fall short of its limit; that of all others should not exceed it.
_LIMITED_BELOW = frozenset({"class-imbalance", "too-few-cases"})


def _is_whole(value: float) -> bool:
    return float(value).is_integer()


@dataclass(frozen=True)
class AuditData:
    """The audit of a pool or run, as its pages need it."""

    verdict: str
    checks: list[CheckRow]
    phase: str = ""
    strict: bool = False
    blocking: list[str] = field(default_factory=list)
    facts: Row = field(default_factory=dict)
    overrides: list[Row] = field(default_factory=list)
    shortcuts: list[Row] = field(default_factory=list)
    external: list[Row] = field(default_factory=list)
    slices: list[Row] = field(default_factory=list)

    def of(self, group: str) -> list[CheckRow]:
        """The checks of one part of the page, in the audit's order."""
        return [check for check in self.checks if check.group == group]

    def check(self, check_id: str) -> CheckRow | None:
        """The check of that id."""
        return next((check for check in self.checks if check.id == check_id), None)

    @property
    def accepted(self) -> bool:
        """Whether somebody let the work go on although a check blocks."""
        return any(check.accepted for check in self.of("block"))

    @property
    def reason(self) -> str:
        """Why the verdict is what it is, in one or two sentences."""
        unchecked = len(self.of("unchecked"))
        rest = (
            f" {plural(unchecked, 'check')} could not be made: the pool lacks what {_it_or_them(unchecked)}."
            if unchecked
            else ""
        )
        blocks, warns = self.of("block"), self.of("warn")
        if self.verdict == "invalid":
            which = _titles(blocks)
            return f"{_head(len(blocks), 'blocks', 'block')}: {which}.{rest}" if blocks else f"A check blocks.{rest}"
        if self.verdict == "caution":
            if not warns:
                return f"No check blocks, but the evidence is not complete.{rest}"
            return f"No check blocks; {_head(len(warns), 'warns', 'warn')}: {_titles(warns)}.{rest}"
        passed = len(self.of("ok"))
        return f"{plural(passed, 'check')} made, none found a fault.{rest}" if passed else f"No fault was found.{rest}"

    @property
    def meaning(self) -> str:
        """What the verdict means for the numbers of a report."""
        if self.verdict == "invalid":
            return "The numbers of a model from this pool are not evidence about patients."
        if self.verdict == "caution":
            return "The numbers may be used by a reader who knows these limits."
        return "Nothing that the audit can see speaks against the numbers; what it cannot see, it cannot vouch for."


def _it_or_them(number: int) -> str:
    return "it needs" if number == 1 else "they need"


def _head(number: int, single: str, many: str) -> str:
    return f"{plural(number, 'check')} {single if number == 1 else many}"


def _titles(checks: list[CheckRow]) -> str:
    named = [f"“{check.title}”" for check in checks[:_NAMED]]
    more = len(checks) - len(named)
    return words([*named, f"{more} more"] if more else named)


def read(folder: Path) -> AuditData:
    """The audit that `folder` holds.

    Raises:
        RunDirError: There is none, or it cannot be read.
    """
    path = folder / run_files.AUDIT
    if not path.is_file():
        raise RunDirError("no audit was found", where=path, fix="make one with `cxr-ssl audit POOL --out DIR`")
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        fix = "make it again with `cxr-ssl audit`"
        raise RunDirError(f"the audit cannot be read: {error}", where=path, fix=fix) from error
    return from_json(content)


def from_json(content: Row) -> AuditData:
    """What `audit.json` says; a part that is absent is empty, an unknown verdict follows from the checks."""
    checks = [_check(row) for row in _rows(content, "checks")]
    severities = {check.severity for check in checks}
    verdict = content.get("verdict")
    if verdict not in VERDICTS:
        verdict = "invalid" if "block" in severities else "caution" if "warn" in severities else "valid"
    return AuditData(
        verdict=verdict,
        checks=checks,
        phase=str(content.get("phase") or ""),
        strict=bool(content.get("strict")),
        blocking=[str(name) for name in content.get("blocking") or ()],
        facts=content.get("facts") or {},
        overrides=_rows(content, "overrides"),
        shortcuts=_rows(content, "shortcuts"),
        external=_rows(content, "external"),
        slices=_rows(content, "slices"),
    )


def _rows(content: Row, key: str) -> list[Row]:
    return [row for row in content.get(key) or () if isinstance(row, dict)]


def _check(row: Row) -> CheckRow:
    check_id = str(row.get("id") or "unnamed")
    severity = row.get("severity")
    return CheckRow(
        id=check_id,
        title=str(row.get("title") or check_id.replace("-", " ").capitalize()),
        severity=severity if severity in ("ok", "warn", "block") else "warn",
        count=row.get("count") or 0,
        value=row.get("value"),
        threshold=row.get("threshold"),
        message=str(row.get("message") or ""),
        why=str(row.get("why") or ""),
        fix=str(row.get("fix") or ""),
        evidence=_rows(row, "evidence"),
        table=row.get("table") or None,
        checked=row.get("checked", True) is not False,
        accepted=row.get("accepted") or None,
    )
