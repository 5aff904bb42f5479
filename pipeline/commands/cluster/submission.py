"""A command as a job: what is sent, and what of it only this machine could see."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.commands.request import quickstart
from pipeline.contracts import config_file
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.runtime import run_dir
from pipeline.runtime.ray_job import REVISION

ENTRY_POINTS = {
    "run": "jobs.run_rounds",
    "embed": "jobs.embed",
    "pretrain": "jobs.pretrain",
    "audit": "jobs.audit",
    "evaluate": "jobs.evaluate",
}
GO_ON = ("run", "embed", "pretrain")  # take --resume, which starts a run that is not there yet
SHORT = {"-c": "--config", "-o": "--out"}
SWITCHES = ("--resume", "--overwrite", "--dry-run", "--oracle", "--strict", "--json", "--quiet", "-q")


@dataclass(frozen=True)
class Submission:
    """A job that can be sent.

    Attributes:
        words: The module that is run and its arguments.
        working_dir: Folder that is sent along.
        variables: Environment of the job.
        name: Of the job, for people.
    """

    words: tuple[str, ...]
    working_dir: Path
    variables: Mapping[str, str]
    name: str

    @property
    def entry(self) -> str:
        """What the cluster runs."""
        return shlex.join(["python", "-m", *self.words])

    def line(self, address: str) -> str:
        """The same as a line for a shell."""
        environment = json.dumps({"env_vars": dict(self.variables)})
        words = ["ray", "job", "submit", "--address", address, "--working-dir", str(self.working_dir)]
        return shlex.join([*words, "--runtime-env-json", environment, "--", "python", "-m", *self.words])


def prepare(words: Sequence[str], working_dir: Path, variables: Sequence[str]) -> Submission:
    """Check a command before anything is sent.

    Args:
        words: As after `cxr-ssl`: `run --config FILE --out DIR`.
        working_dir: Folder that is sent along.
        variables: `NAME=VALUE` for the job's environment.

    Raises:
        InputError: no such command, a wrong configuration, or a path that the cluster cannot see.
    """
    if not words or words[0] not in ENTRY_POINTS:
        known = ", ".join(ENTRY_POINTS)
        raise InputError("no such job", value=" ".join(words[:1]) or None, where="submit", fix=f"known: {known}")
    if not working_dir.is_dir():
        raise InputError("is no folder", value=str(working_dir), where="--working-dir", fix="name the code's folder")
    command, arguments = words[0], tuple(words[1:])
    options = list(_options(arguments))
    _refuse_lost_paths(command, options, working_dir)
    if command in GO_ON and not {"--resume", "--overwrite", "--dry-run"}.intersection(arguments):
        arguments += ("--resume",)  # the same line again goes on with the run
    pairs = [variable.partition("=") for variable in variables]
    if wrong := [f"{name}{sign}{value}" for name, sign, value in pairs if not (name and sign)]:
        raise InputError("is no variable", value=wrong[0], where="--env", fix="write NAME=VALUE")
    revision = run_dir.git_revision()
    environment = {name: value for name, _, value in pairs} | ({REVISION: revision} if revision else {})
    return Submission((ENTRY_POINTS[command], *arguments), working_dir, environment, f"cxr-ssl {command}")


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(option, value) of a command's words; what stands alone has the option ""."""
    words = iter(arguments)
    for word in words:
        name, sign, value = word.partition("=")
        if not word.startswith("-"):
            yield "", word
        elif sign and word.startswith("--"):
            yield name, value
        elif word not in SWITCHES:
            yield SHORT.get(word, word), next(words, "")


def _refuse_lost_paths(command: str, options: Sequence[tuple[str, str]], working_dir: Path) -> None:
    """Refuse what the job could not find, or what would be thrown away with its working directory."""
    named = dict(options)
    config = _checked_config(command, options, working_dir)
    own = [value for name, value in options if not name]
    paths = {"--out": named.get("--out"), "--against": named.get("--against"), "the path": own[0] if own else None}
    paths |= {"pool.uri": config.pool.uri, "embed.store": config.embed.store} if config is not None else {}
    paths |= {"--pool": named.get("--pool")}
    for where, path in paths.items():
        if path is not None and _is_relative(path):
            raise InputError(
                "is a path of this machine, or of the job's working directory, which is thrown away with it",
                value=path,
                where=where,
                fix="give the full path on storage that all nodes share",
            )
    needs_out = command in GO_ON or (command == "audit" and not (own and Path(own[0]).is_absolute()))
    if needs_out and "--out" not in named:
        raise InputError("a job needs a folder that outlives it", where="--out", fix="name one that all nodes share")


def _checked_config(command: str, options: Sequence[tuple[str, str]], working_dir: Path) -> Config | None:
    """The configuration of a command, checked here: a mistake is told before anything is sent."""
    named = dict(options)
    overrides = dict(config_file.parse_override(value) for name, value in options if name == "--set")
    file = named.get("--config")
    if file is None:
        path = quickstart() if command == "run" and "--pool" not in named and "pool.uri" not in overrides else None
        return config_file.load(path, overrides)
    path = Path(file) if Path(file).is_absolute() else working_dir / file
    if Path(file).is_absolute() and not path.exists():
        return None  # a file of the cluster
    if not path.is_file():
        fix = f"name a file below {working_dir}, which is sent along"
        raise InputError("there is no such file to be sent", value=file, where="--config", fix=fix)
    return config_file.load(path, overrides)


def _is_relative(path: str) -> bool:
    """Whether a path leads somewhere only from here; `phantom:`, `s3://…` and other schemes do not."""
    return not Path(path).is_absolute() and re.match(r"[a-z][a-z0-9+]*:", path) is None
