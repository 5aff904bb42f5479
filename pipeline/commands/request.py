"""What a user asked for: the run directory and the configuration, checked before anything is written."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embeddings import backbones
from pipeline.audit.check import Override
from pipeline.contracts import config_file
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import PreprocessConfig
from pipeline.runtime import private_files, run_dir, run_files
from pipeline.runtime.finding_folders import refuse_part
from pipeline.selection import strategies

log = logging.getLogger(__name__)

FIXED_ON_RESUME = ("seed", "oracle", "splits")


@dataclass(frozen=True)
class Request:
    """What a user asked for.

    Attributes:
        config_file: YAML, or None.
        overrides: Dotted options that win over the file.
        out: Run directory; None: `runs/NAME-1`, -2, ….
        resume: Go on with what is there.
        overwrite: Start again.
        quiet: No progress.
        stages: Only these; None: all.
        accept: Overrides of the audit, to be written down with the run.
        grow: Addresses of pools that join the run.
    """

    config_file: Path | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    quiet: bool = False
    stages: tuple[str, ...] | None = None
    accept: tuple[Override, ...] = ()
    grow: tuple[str, ...] = ()


def prepared(request: Request) -> tuple[Path, Config]:
    """Folder and configuration of a request, or what is wrong with it, before anything is written."""
    if request.resume and request.overwrite:
        raise InputError("--resume and --overwrite contradict each other", fix="give one of them")
    out = _out_folder(request)
    run_dir.refuse_foreign(out)
    refuse_part(out)
    config = load_config(request, out)
    strategies.get(config.strategy.name)
    return out, config


def load_config(request: Request, out: Path) -> Config:
    """The configuration of a request: on resume without --config that of the run, else the file, else quickstart."""
    path = request.config_file
    resolved = out / run_files.RESOLVED
    if request.resume and resolved.exists():
        before = run_dir.config_of(out)
        own = {} if path else {"network.open_scans": before.network.open_scans}  # a file of an earlier state lacks it
        config = _with_salt_of(before, _sized(config_file.load(path or resolved, own | request.overrides)), out)
        for name in FIXED_ON_RESUME if run_files.has_rounds(out) else ():
            changed = _changed(getattr(before, name), getattr(config, name), name)
            if changed is not None:
                option, was, now = changed
                raise InputError(
                    f"cannot change on --resume, the run has {was}",
                    value=now,
                    where=option,
                    fix="name a new folder with --out",
                )
        return config
    if path is None and "pool.uri" not in request.overrides:
        path = quickstart()
    return _sized(config_file.load(path, request.overrides))


def _with_salt_of(before: Config, config: Config, out: Path) -> Config:
    """The configuration of a run that goes on, with the secret that an older version wrote among the run's options.

    Raises:
        InputError: another secret is asked for, once people have seen a queue.
    """
    own = private_files.read_salt(out) or before.splits.salt
    asked = config.splits.salt
    if asked is None:
        if before.splits.salt is None:
            return config
        splits = config.splits.model_copy(update={"salt": before.splits.salt})
        return config.model_copy(update={"splits": splits})
    if own is not None and asked != own and run_files.has_rounds(out):
        raise InputError(
            "cannot change on --resume, the run has another",
            where="splits.salt",
            fix="leave it out: the run keeps its own in private/salt; or name a new folder with --out",
        )
    return config


def _sized(config: Config) -> Config:
    """The size that the backbone was made for, where none is asked for."""
    if "size_px" in config.preprocess.model_fields_set or config.backbone.name == backbones.OFFLINE:
        return config
    size_px = backbones.size_px(config.backbone)
    if size_px in (None, config.preprocess.size_px):
        return config
    log.info("scans are resized to %d pixels, which %s was made for", size_px, config.backbone.name)
    preprocess = PreprocessConfig.model_validate({"size_px": size_px})
    return config.model_copy(update={"preprocess": preprocess})


def _changed(before: Any, now: Any, name: str) -> tuple[str, str, Any] | None:
    """The first option that differs, what it was and what it is asked to be; the salt is looked at elsewhere."""
    if not hasattr(before, "model_dump"):
        return None if before == now else (name, repr(before), now)
    for key, was in before.model_dump().items():
        if getattr(now, key) != was:
            return f"{name}.{key}", repr(was), getattr(now, key)
    return None


def quickstart() -> Path:
    """The configuration of a run without --config and --pool: inside an installed package, or in the checkout."""
    packed = Path(config_file.__file__).with_name("quickstart.yaml")
    return packed if packed.exists() else Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def _out_folder(request: Request) -> Path:
    if request.out is not None:
        return request.out.absolute()
    name = (
        request.config_file.stem
        if request.config_file
        else "quickstart"
        if "pool.uri" not in request.overrides
        else "run"
    )
    number = next_number(name)
    if request.resume and number > 1:
        number -= 1
    return (Path("runs") / f"{name}-{number}").absolute()


def next_number(name: str) -> int:
    """The first number whose folder `runs/NAME-number` is free."""
    number = 1
    while (Path("runs") / f"{name}-{number}").exists():
        number += 1
    return number
