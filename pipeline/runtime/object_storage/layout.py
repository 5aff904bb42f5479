"""What lies where below a run's URL.

    published/0000000042.json   a snapshot: every file of the run with its size and hash; the highest number counts
    files/HASH/NAME             what a file held; never written over
    logs/NAME/0000000007.json   a piece of a file that only grows: answers, notes, marks, reads of the holdout
    lock/0000000003.json        who works on the run; the highest number counts

Numbers are taken by creating an object where there is none, so two writers never take the same one. A writer that was
held up and comes back late finds its number taken: it cannot replace what another has published since.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.contracts.errors import StorageError
from pipeline.contracts.object_store import ObjectStore, safe_name
from pipeline.runtime import run_files

PUBLISHED, FILES, LOGS, LOCKS = "published", "files", "logs", "lock"
OWN = (PUBLISHED, FILES, LOGS, LOCKS)
# Whatever is named otherwise was written by somebody else, and is neither read nor removed.
_NUMBERED = re.compile(r"(.+/)?(?P<number>[0-9]{10})\.json")
_CONTENT = re.compile(rf"{FILES}/[0-9a-f]{{16}}/.+")
_OWN = re.compile(
    rf"{PUBLISHED}/[0-9]{{10}}\.json|{FILES}/[0-9a-f]{{16}}/.+|{LOGS}/.+/[0-9]{{10}}\.json"
    rf"|{LOCKS}/([0-9]{{10}}\.json|asked-[0-9a-f]{{32}})"
)
# Files of a run, or of one finding of it, that several processes add to, also without the run's lock.
GROWING = frozenset({run_files.ANSWERS, run_files.NOTES, run_files.MARKS, run_files.HOLDOUT_READS})
# Seen by others while a run works, in its lock; they differ on every machine and mean nothing later.
MOMENTARY = frozenset({run_files.STATUS, run_files.PROGRESS, run_files.CRASH_LOG, run_files.ON_SCREEN})
# Commands that only read a run may write these into it: they come from its other files.
REMADE = frozenset({run_files.EXPLORE, run_files.OUTSIDE, run_files.HEAT_MAPS, run_files.MONITOR_REFERENCE})
_SHOWN = frozenset({run_files.PICTURES, "priors"})  # folders of pictures that pages made of the pool
_UNFINISHED = (".tmp", ".part", ".lock")
# Of no use for labels, queues and the state of a run, and as large as the pool.
_VECTORS = frozenset(
    {
        *(run_files.EMBEDDINGS, run_files.EMBEDDED, run_files.FEATURES, run_files.BASIS, run_files.SIMILARITY),
        *(run_files.NEIGHBORS, *REMADE, run_files.PIXELS, run_files.AUDIT_PICTURES),
    }
)
_MODELS = frozenset(
    {run_files.PRETRAINED, run_files.MODEL, run_files.NETWORK_FITS, run_files.TENSORBOARD, run_files.REFERENCE_FITS}
)
# Beside those, what `status` does not look at.
_NOT_FOR_STATUS = frozenset({"report", run_files.PRIVATE, run_files.EXAMPLES, run_files.IMPORTS, run_files.EXTERNAL})


class FileFacts(NamedTuple):
    """Size and SHA-256 of a file's content, in hexadecimal."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Snapshot:
    """All files of a run that belong together.

    Attributes:
        number: 0: nothing was published.
        files: Facts of each by its name inside the run.
    """

    number: int
    files: Mapping[str, FileFacts]

    def to_json(self, writer: str) -> bytes:
        """As it is published; `writer` makes it different from what anybody else writes."""
        files = {name: [facts.num_bytes, facts.sha256] for name, facts in sorted(self.files.items())}
        return json.dumps({"version": 1, "writer": writer, "files": files}, indent=0).encode()


def read_snapshot(store: ObjectStore, number: int) -> Snapshot:
    """A snapshot that was published.

    Raises:
        FileNotFoundError: there is none of this number.
        StorageError: it is no snapshot, or names a file outside the run's folder.
    """
    if number == 0:
        return Snapshot(0, {})
    place = numbered(PUBLISHED, number)
    try:
        listed = json.loads(store.read(place))["files"]
        files = {name: FileFacts(*facts) for name, facts in listed.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        fix = "bring the object back from a backup, or remove it: the one before it counts then"
        raise StorageError("is not a snapshot of a run", where=f"{store.url}/{place}", fix=fix) from error
    return Snapshot(number, {safe_name(name, f"{store.url}/{place}"): facts for name, facts in files.items()})


def latest(store: ObjectStore, below: str) -> int:
    """The highest number taken; 0 before the first."""
    return max((number_of(name) for name in store.names(below)), default=0)


def numbered(below: str, number: int) -> str:
    """Name of a numbered object."""
    return f"{below}/{number:010d}.json"


def number_of(name: str) -> int:
    """Number of a numbered object; 0 of any other."""
    fits = _NUMBERED.fullmatch(name)
    return int(fits["number"]) if fits else 0


def is_own(name: str) -> bool:
    """Whether an object is named as those of a run are."""
    return _OWN.fullmatch(name) is not None


def is_content(name: str) -> bool:
    """Whether an object is named as what a file of a run held."""
    return _CONTENT.fullmatch(name) is not None


def object_of(name: str, facts: FileFacts) -> str:
    """Where a file's content lies: its name is the last part, so that browsers know what it is."""
    return f"{FILES}/{facts.sha256[:16]}/{name}"


def contents_of(snapshot: Snapshot) -> set[str]:
    """Names of the objects that a snapshot's files are made of."""
    return {object_of(name, facts) for name, facts in snapshot.files.items()}


def is_published(name: str) -> bool:
    """Whether a file of a run's folder goes to its snapshots."""
    folders, own = name.split("/")[:-1], name.rpartition("/")[2]
    if own.startswith(".") or own.endswith(_UNFINISHED) or own == run_files.PROGRESS or is_growing(name):
        return False
    return not _SHOWN.intersection(folders)


def is_growing(name: str) -> bool:
    """Whether a file is kept as pieces that are added."""
    return name.rpartition("/")[2] in GROWING


def is_for_labels(name: str) -> bool:
    """Whether commands that deal with labels and queues may look at a file."""
    return name.rpartition("/")[2] not in _VECTORS and not _MODELS.intersection(name.split("/")[:-1])


def is_for_status(name: str) -> bool:
    """Whether `status` may look at a file."""
    return is_for_labels(name) and not _NOT_FOR_STATUS.intersection(name.split("/")[:-1])
