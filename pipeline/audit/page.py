"""`report/audit.html`: the verdict, what was overridden, and every check with its evidence; needs no finished run."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from markupsafe import Markup

from embeddings.alterations.alteration import Alteration
from pipeline.audit import page_data, page_figures
from pipeline.audit.page_data import AuditData, CheckRow, Row
from pipeline.contracts.tables import MANIFEST, write_text
from pipeline.pages.template_env import environment
from pipeline.pages.thumbnails import MAX_PIXELS, thumbnails
from pipeline.pages.wording import known
from pipeline.pool.burned_in.note import reason_in
from pipeline.runtime import run_files

TEMPLATES = Path(__file__).parent / "templates"
MAX_PICTURES = 160  # of the whole page, shared fairly among the checks
SIDE_PX = 128
MAX_SLICES = 24  # lines of one kind of slice
_FACT_NAMES = {  # those that do not explain themselves
    "burned_in_text": "pictures with text burnt in",
    "lung_mask_quality": "fit of the lung masks, of 1",
}
_FACT_WORDS = {"kept back": "not shown, not handed out", "drawn by group": "drawn, patients kept together"}
_ABOUT = ("uri", "note", "source", "view", "age_years", "sex")


def build(folder: Path, *, max_pixels: int = MAX_PIXELS) -> Path:
    """Write `report/audit.html` from `audit.json` and, for the pictures, `manifest.parquet`.

    Args:
        folder: Of a run or of an audit alone.
        max_pixels: Scans with more pixels get a placeholder.

    Returns:
        The path of the page.

    Raises:
        RunDirError: There is no audit, or it cannot be read.
    """
    folder = Path(folder)
    audit = page_data.read(folder)
    page = folder / run_files.AUDIT_PAGE
    write_text(page, html(audit, folder, has_report=(folder / run_files.REPORT).is_file(), max_pixels=max_pixels))
    return page


def html(audit: AuditData, folder: Path, *, has_report: bool, max_pixels: int = MAX_PIXELS) -> str:
    """The page as text; `has_report` adds the links to the run's report."""
    shown = share_pictures(audit.checks)
    about = _about(run_files.path(folder, MANIFEST.file), {i for ids in shown.values() for i in ids})
    allowed = audit.facts.get("burned_in_text") == "handed on"
    uris = {i: row["uri"] for i, row in about.items() if row.get("uri") and (allowed or not reason_in(row.get("note")))}
    kept_back = {image_id for image_id, row in about.items() if image_id not in uris and reason_in(row.get("note"))}
    pictures = {
        alteration: thumbnails(
            {i: uris[i] for i in ids if i in uris}, side_px=SIDE_PX, max_pixels=max_pixels, alteration=alteration
        )
        for alteration, ids in _shown_as(audit.checks, shown).items()
    }
    drawn = page_figures.shortcuts(audit.shortcuts)
    return (
        environment(TEMPLATES)
        .get_template("audit.html.j2")
        .render(
            audit=audit,
            name=folder.resolve().name,
            has_report=has_report,
            shown=shown,
            about=about,
            pictures=pictures,
            kept_back=kept_back,
            facts=_facts(audit.facts),
            shortcut_figure=None if drawn is None else Markup(drawn),
            shortcut_groups=page_figures.shortcut_groups(audit.shortcuts),
            shortcut_warnings=page_figures.warnings_of(audit.shortcuts),
            probes=page_figures.PROBES,
            slices=_slices(audit.slices),
        )
    )


def share_pictures(checks: list[CheckRow], most: int = MAX_PICTURES) -> dict[str, list[str]]:
    """Check id to the image ids that get a picture: in turns, so that no check takes the room of another."""
    shown: dict[str, list[str]] = {check.id: [] for check in checks}
    deepest = max((len(check.evidence) for check in checks), default=0)
    left = most
    for depth in range(deepest):
        for check in checks:
            if depth < len(check.evidence) and left > 0:
                shown[check.id].append(str(check.evidence[depth].get("image_id")))
                left -= 1
    return shown


def _shown_as(checks: list[CheckRow], shown: dict[str, list[str]]) -> dict[Alteration, list[str]]:
    """The image ids that are shown as they are, and those that are shown altered, each once and in order."""
    ids: dict[Alteration, dict[str, None]] = {"none": {}, "equalised": {}}
    for check in checks:
        for image_id, row in zip(shown[check.id], check.evidence, strict=False):
            ids["equalised" if row.get("alteration") == "equalised" else "none"][image_id] = None
    return {alteration: list(of) for alteration, of in ids.items()}


def _about(path: Path, ids: set[str]) -> dict[str, Row]:
    """What the manifest says of a few scans; empty where there is none, as the checks stand without pictures."""
    if not ids or not path.is_file():
        return {}
    try:
        there = set(pq.read_schema(path).names)
        if not {"image_id", "uri"} <= there:
            return {}
        table = pq.read_table(path, columns=["image_id", *(c for c in _ABOUT if c in there)], partitioning=None)
    except (OSError, pa.ArrowException):
        return {}
    rows = table.filter(pc.is_in(table["image_id"], pa.array(sorted(ids), pa.string()))).to_pylist()
    return {row.pop("image_id"): row for row in rows}


def _facts(facts: Row) -> list[tuple[str, Any]]:
    """Counts of the pool as (words, value); nested ones become one line of words."""
    out: list[tuple[str, Any]] = []
    for key, value in facts.items():
        if key == "pool" or str(key).endswith("_hash"):
            continue
        name = _FACT_NAMES.get(str(key), str(key).removeprefix("num_").replace("_", " "))
        value = _FACT_WORDS.get(str(value), value) if isinstance(value, str) else value
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        if value not in (None, ""):
            out.append((name, value))
    return out


def _slices(rows: list[Row]) -> list[dict[str, Any]]:
    """Slices by kind; of many the ones that labels reach least, and how many are left out."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(str(row.get("by") or "slice"), []).append(row)
    out = []
    for by, group in kinds.items():
        keep = group
        if len(group) > MAX_SLICES:
            worst = sorted(group, key=lambda r: (_gap(r), -(r.get("num_scans") or 0)))[:MAX_SLICES]
            keep = [row for row in group if any(row is other for other in worst)]
        unlabelled = [row for row in group if row.get("num_scans") and row.get("num_labelled") == 0]
        out.append({"by": by, "rows": keep, "left_out": len(group) - len(keep), "num_unlabelled": len(unlabelled)})
    return out


def _gap(row: Row) -> float:
    """Share of the labels minus share of the scans: the lower, the less the labels speak of the slice."""
    share, labelled = row.get("share"), row.get("share_labelled")
    if share is None or labelled is None or not (known(share) and known(labelled)):
        return 0.0
    return float(labelled - share)
