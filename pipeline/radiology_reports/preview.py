"""What the radiology reports of a pool say, before any run: to try a rules file at once."""

from pathlib import Path
from typing import Any

from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.pool.sources import open_pool
from pipeline.radiology_reports import report_labels, stage


def read_pool(path: Path | None, overrides: dict[str, Any]) -> dict[str, Any]:
    """Read a pool's reports and count what they say; opens no scan, keeps nothing.

    Args:
        path: A configuration; None: none.
        overrides: Dotted options that win over it.

    Returns:
        Counts alone, see `stage.summary`.

    Raises:
        InputError: the options name no reports, or they cannot be read.
    """
    config: Config = config_file.load(path, overrides)
    if not stage.has_reports(config):
        raise InputError(
            "the options name no reports",
            where="pool.reports",
            fix="say where they are: --set pool.reports=COLUMN, or the path of a folder or table",
        )
    pool = open_pool(config.pool, cache_folder())
    return stage.summary(report_labels.read(pool, config, config.pool.findings))
