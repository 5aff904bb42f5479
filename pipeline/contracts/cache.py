"""Where this machine keeps what can be made or fetched again."""

import os
from pathlib import Path

from pipeline.contracts.errors import InputError
from pipeline.contracts.object_store import is_url, local_path

CACHE = "CXR_SSL_CACHE"


def cache_folder() -> Path:
    """What runs share and can rebuild: CXR_SSL_CACHE, else the user's cache folder.

    Raises:
        InputError: CXR_SSL_CACHE is a URL.
    """
    chosen = os.environ.get(CACHE)
    if chosen and is_url(chosen):
        fix = "name a folder of this machine; embeddings may lie at a URL: embed.store, and a run: --out"
        raise InputError("is a URL, and programs map its files into memory", value=chosen, where=CACHE, fix=fix)
    if chosen:
        return local_path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cxr-ssl"
