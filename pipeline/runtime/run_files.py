"""Which file of a run lies where, and what its queues and finished rounds are: the one place that spells these names.

A finding's folder (`findings/NAME`) looks like a run of that question alone. What no finding changes lies once, in the
run above it, and is found there: give `path` and `read` either folder.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.contracts.tables import CLUSTERS, DUPLICATES, MANIFEST, POOL_READINGS, QUEUE, SPLIT_TABLE, Contract
from pipeline.runtime.finding_folders import whole_of

# What was asked for, where it ran, how far it came
CONFIG, RESOLVED, ENV = "config.yaml", "resolved.yaml", "env.json"
STATUS, STAGES, LOCK, CRASH_LOG = "status.json", "stages.json", ".lock", "crash.log"
PROGRESS, LINEAGE, TRACKED = "activity.json", "lineage.jsonl", "tracked.json"  # see pipeline.runtime.watching
TENSORBOARD = "tensorboard"  # a folder
# The pool and its vectors
PRIVATE = "private"  # a folder: what leads back from pseudonyms to people; never handed on
SALT = f"{PRIVATE}/salt"
SPLIT_KEYS = f"{PRIVATE}/split_keys.parquet"  # what the draw of the holdout hashes
SCANS_READ = f"{PRIVATE}/manifest_files.parquet"  # what was read of each file, so that it is read once
SCANS_READ_SO_FAR = f"{PRIVATE}/manifest_files"  # a folder, while that goes on: the same, a part now and then
REPORT_LABELS = f"{PRIVATE}/report_labels.parquet"  # what radiology reports say of each scan, and in which sentence
REPORTS_READ = "reports.json"  # how many reports were read, and how many say what
PATIENT_FORMS = "patient_forms.parquet"  # which pseudonyms are one id in several spellings
GROWTH, GROWN_SCANS = "growth.json", "grown.parquet"  # pools that joined the run, and which scan came with which
GROWN = "grown"  # a folder a pool that joined: its own tables, and what the model before says of the grown pool
POOL_NOTES = "pool_notes.json"  # what was forgiven, and why scans were left out, before a file was opened
PRETRAINED, PRETRAINING = "pretrain", "pretrain.json"  # a folder, see embeddings.backbones, and what it tells
PRETRAINED_HISTORY = f"{PRETRAINED}/history.jsonl"
BACKBONE, EMBEDDINGS, EMBEDDED = "backbone.json", "embeddings.npy", "embeddings.parquet"  # the last: ids of the rows
NOT_EMBEDDED = "embed_failures.parquet"
FEATURES, BASIS, NEIGHBORS = "features.npy", "features.safetensors", "neighbors.safetensors"
SIMILARITY = "similarity.npy"
EXPLORE = "explore.safetensors"  # the map of the pool for `explore`, see pipeline.explore
OUTSIDE = "outside.safetensors"  # what tells scans that are unlike the training pool, see pipeline.predict
HEAT_MAPS = "heat_maps.json"  # what the checks of its heat maps came to
MONITOR_REFERENCE = "monitor_reference.parquet"  # the run's own scans as `monitor` compares others with them
# Labels
MARKS = "marks.jsonl"  # tags, saved views, wishes for the next queue
NOTES, NOTES_TABLE, EXAMPLES = "notes.jsonl", "notes.csv", "examples"  # beside answers; pictures of the definitions
ANSWERS, AGREEMENT, HOLDOUT_READS, IMPORTS = "answers.jsonl", "agreement.json", "holdout_access.jsonl", "imports"
ON_SCREEN = "on_screen.json"  # which scans are on whose screen at the labelling page
# Audit and results
AUDIT, OVERRIDES, PIXELS = "audit.json", "overrides.json", "audit_pixels.parquet"
AUDIT_PICTURES = "audit_pictures.parquet"  # what scans look like at a glance
METRICS, EVALUATION, COMPARISON, EXTERNAL = "metrics.jsonl", "evaluation.json", "comparison.json", "external"
ACT_OR_DEFER = "act_or_defer.json"  # from which probability on the model may decide alone
SITE = "site"  # a folder: the unlabelled scans of a site, read and embedded
REFERENCE, REFERENCE_FITS = "reference.jsonl", "reference"
# Pages
REPORT, AUDIT_PAGE = "report/index.html", "report/audit.html"
MODEL_CARD, CHECKLISTS = "report/model_card.md", "report/checklists.html"
DATA_GOVERNANCE, CHANGE_PLAN = "report/data_governance.md", "report/change_plan.md"  # drafts for regulators
CROISSANT = "report/croissant.json"  # the run's tables as a data set, in JSON-LD
# Of a round
ROW, OOF = "metrics.json", "oof.parquet"  # its line of `METRICS`; probabilities of experts' scans, out of fold
FORECAST = "forecast.json"  # what further labels would buy, whether predictions are stable, and the advice
QUEUE_OPTIONS, QUEUE_TABLE, QUEUE_PAGE = "queue.json", "queue.csv", "queue.html"
PREANNOTATED, ASSIGNMENTS = "preannotated.json", "assignments.json"  # shown with the model's answer; who reads what
ANNOTATORS, PICTURES = "annotators", "images"
MODEL, NETWORK_FITS = "model", "network"  # folders: what classifies, and what was trained on the way to it
MODEL_ONNX, MODEL_WEIGHTS, CARD, TRAINING = "model.onnx", "model.safetensors", "card.json", "training.json"
CALIBRATION = "calibration.safetensors"  # beside them: how the calibration might have come out by other labels

ROUNDS = "rounds"
RELEASES, RELEASE_CARD = "releases", "release.json"  # a folder a release; its card is written last
# What no finding changes.
SHARED = frozenset(
    {
        *(table.file for table in (MANIFEST, POOL_READINGS, DUPLICATES, SPLIT_TABLE, CLUSTERS)),
        *(GROWTH, GROWN_SCANS),
        *(PRIVATE, PATIENT_FORMS, POOL_NOTES, REPORTS_READ, PRETRAINED, PRETRAINING, BACKBONE),
        *(EMBEDDINGS, EMBEDDED, NOT_EMBEDDED),
        *(FEATURES, BASIS, SIMILARITY, NEIGHBORS, OUTSIDE, EXPLORE, HEAT_MAPS, OVERRIDES, PIXELS, AUDIT_PICTURES),
        *(STAGES, STATUS, ANSWERS, MARKS),
    }
)


# --- of a run ---------------------------------------------------------------------------------------------------------


def home(folder: Path) -> Path:
    """The run that a folder is of: a finding's folder is of the run above it; any other is its own."""
    return whole_of(folder) or folder


def path(folder: Path, name: str) -> Path:
    """Where a file of a run, or of one finding of it, lies, whether it is there or not."""
    return (home(folder) if _is_shared(name) else folder) / name


def read(folder: Path, contract: Contract, columns: Sequence[str] | None = None) -> pa.Table:
    """Read and check a table of a run, or of one finding of it, or some columns of it; see `Contract.read`."""
    return contract.read(path(folder, contract.file).parent, columns)


def href(folder: Path, name: str) -> str:
    """Address of a file of a run as a page in its `report/` knows it."""
    above = "../../" if _is_shared(name) and whole_of(folder) is not None else ""
    return f"../{above}{name}"


def _is_shared(name: str) -> bool:
    return name.partition("/")[0] in SHARED


# --- its rounds -------------------------------------------------------------------------------------------------------


def round_name(round_index: int) -> str:
    """`rounds/RR`."""
    return f"{ROUNDS}/{round_index:02d}"


def round_folder(folder: Path, round_index: int) -> Path:
    """The folder of a round, from 1."""
    return folder / round_name(round_index)


def release_folder(folder: Path, number: int) -> Path:
    """The folder of a frozen release, from 1."""
    return folder / RELEASES / f"{number:02d}"


def grown_folder(folder: Path, number: int) -> Path:
    """The folder of a pool that joined the run, from 1: of the run its tables, of one finding what its model says."""
    return folder / GROWN / f"{number:02d}"


def releases(folder: Path) -> list[int]:
    """Numbers of the releases that were frozen, in order."""
    places = (card.parent.name for card in (folder / RELEASES).glob(f"*/{RELEASE_CARD}"))
    return sorted(int(place) for place in places if place.isdigit())


def rounds_with(folder: Path, name: str) -> list[int]:
    """The rounds that have left a file of this name, in order."""
    places = (file.relative_to(folder / ROUNDS).parts[0] for file in (folder / ROUNDS).glob(f"*/{name}"))
    return sorted(int(place) for place in places if place.isdigit())


def has_rounds(folder: Path) -> bool:
    """Whether a first queue was ever begun: from then on people may have seen it."""
    return (folder / ROUNDS).exists()


def drawn_rounds(folder: Path) -> list[int]:
    """The rounds whose queue was drawn, in order."""
    return rounds_with(folder, QUEUE.file)


def latest_round(folder: Path) -> int | None:
    """The round whose queue was drawn last; None before the first."""
    return max(drawn_rounds(folder), default=None)


def last_round(folder: Path) -> int | None:
    """Number of the last finished round; None before the first."""
    return max(rounds_with(folder, ROW), default=None)


def finished_rows(folder: Path, num_rounds: int) -> list[dict[str, Any]]:
    """The rows of metrics of the finished rounds among the first `num_rounds`, in order, up to a gap."""
    rows = []
    for round_index in range(1, num_rounds + 1):
        row = round_folder(folder, round_index) / ROW
        if not row.exists():
            break
        rows.append(json.loads(row.read_text("utf-8")))
    return rows


# --- its queues -------------------------------------------------------------------------------------------------------


def filled_tables(folder: Path) -> list[Path]:
    """Every `queue.csv` that was handed out, to anybody or to a named annotator: people may have written into it."""
    rounds = folder / ROUNDS
    return [*rounds.glob(f"*/{QUEUE_TABLE}"), *rounds.glob(f"*/{ANNOTATORS}/*/{QUEUE_TABLE}")]


def run_code(folder: Path) -> str | None:
    """What names a run in the files it hands out: a hash of its first queue, which never changes.

    It begins with `r`, so that no spreadsheet takes it for a number (12 hex digits look like one in 1 run of 140).
    """
    first = round_folder(folder, 1)
    if not (first / QUEUE.file).exists():
        return None
    ids = QUEUE.read(first).sort_by("rank")["image_id"].to_pylist()
    return "r" + hashlib.sha256("\n".join(ids).encode()).hexdigest()[:11]


def asked(folder: Path) -> dict[str, int]:
    """Every scan a queue of this run holds, with the first round that asked for it."""
    return {image_id: rounds[0] for image_id, rounds in rounds_asking(folder).items()}


def rounds_asking(folder: Path) -> dict[str, list[int]]:
    """Every scan a queue of this run holds, with the rounds that asked for it, in order."""
    known: dict[str, list[int]] = {}
    for image_id, round_index, _ in asks_of(folder):
        known.setdefault(image_id, []).append(round_index)
    return known


def asks_of(folder: Path, before_round: int | None = None) -> list[tuple[str, int, str]]:
    """Scan, round and kind of every row of the queues so far, or of those before a round."""
    rows = []
    for round_index in drawn_rounds(folder):
        if before_round is None or round_index < before_round:
            queue = QUEUE.read(round_folder(folder, round_index)).sort_by("rank")
            asks = zip(queue["image_id"].to_pylist(), queue["kind"].to_pylist(), strict=True)
            rows += [(image_id, round_index, kind) for image_id, kind in asks]
    return rows


def kinds(folder: Path, before_round: int) -> dict[str, Counter[str]]:
    """Why each scan was asked for in the queues before a round, and how often."""
    counts: dict[str, Counter[str]] = {}
    for image_id, _, kind in asks_of(folder, before_round):
        counts.setdefault(image_id, Counter())[kind] += 1
    return counts


def shown_with_answer(folder: Path) -> set[tuple[str, int]]:
    """Scan and round of all that was handed out with the model's answer; of a finding's folder, in its run."""
    run = home(folder)
    return {
        (image_id, round_index)
        for round_index in rounds_with(run, PREANNOTATED)
        for image_id in json.loads((round_folder(run, round_index) / PREANNOTATED).read_text("utf-8"))
    }


def digest(*parts: object) -> str:
    """A hash that orders things by chance, the same on every machine."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
