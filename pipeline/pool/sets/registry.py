"""Which sets are known by name: those that ship here, and those of other packages.

A package adds a set by an entry point of the group `cxr_ssl.sets`, whose name is what stands before the colon of
`pool.uri` and whose object is a `public_set.Reader`. Ours stand here and not in the package's metadata, so that they
are known as well where the code runs from an uploaded working directory.
"""

import importlib
import logging
from importlib.metadata import EntryPoint, entry_points

from pipeline.contracts.errors import InputError
from pipeline.pool.sets.public_set import Reader

_log = logging.getLogger(__name__)

GROUP = "cxr_ssl.sets"
OWN = {
    "brax": "brax:read",
    "chexpert": "chexpert:read",
    "chexpert-plus": "chexpert_plus:read",
    "covid-chestxray": "covid_chestxray:read",
    "covidx": "covidx:read",
    "mimic-cxr": "mimic_cxr:read",
    "montgomery": "nlm_tb:read_montgomery",
    "nih": "nih:read",
    "nih-google": "nih_google:read",
    "openi": "openi:read",
    "padchest": "padchest:read",
    "rsna": "rsna:read",
    "shenzhen": "nlm_tb:read_shenzhen",
    "siim": "siim:read",
    "vinbig": "vinbig:read",
    "vindr": "vinbig:read",
}


def names() -> tuple[str, ...]:
    """The sets that can be named, sorted."""
    return tuple(sorted({*OWN, *_of_others()}))


def reader_of(name: str) -> Reader | None:
    """What reads a set; None where nobody has registered its name.

    Raises:
        InputError: another package registered it, and its reader cannot be imported.
    """
    if name in OWN:
        module, _, function = OWN[name].partition(":")
        own: Reader = getattr(importlib.import_module(f"pipeline.pool.sets.readers.{module}"), function)
        return own
    entry = _of_others().get(name)
    if entry is None:
        return None
    try:
        other: Reader = entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the reader of this set cannot be imported: {error}",
            value=f"{name}:",
            where=f"entry point {entry.value} of the group {GROUP}",
            fix="install the package that brings it again, or ask its authors",
        ) from error
    return other


def _of_others() -> dict[str, EntryPoint]:
    others = {entry.name.lower(): entry for entry in entry_points(group=GROUP)}
    for name in sorted(others.keys() & OWN.keys()):
        _log.warning("%s registers the set %r, which ships with cxr-ssl: ours is read", others[name].value, name)
    return {name: entry for name, entry in others.items() if name not in OWN}
