"""What each answer means, for those who give it: definitions and example pictures, out of the configuration."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.annotate.page.backend import Definition, PageOptions
from pipeline.annotate.pictures import uris_and_priors, write_picture
from pipeline.contracts.answers import REMARKS
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import NONE, are_independent
from pipeline.runtime import run_files

log = logging.getLogger(__name__)


def page_options(config: Config, findings: Sequence[str]) -> PageOptions:
    """How the page looks and speaks, as the configuration says; the definitions without pictures.

    Args:
        config: The run's configuration.
        findings: Classes an answer may name.

    Raises:
        InputError: when something is defined that is no answer.
    """
    offered = [*findings, *((NONE,) if are_independent(findings) else ()), *REMARKS]
    definitions = config.annotate.definitions
    if strange := sorted(set(definitions) - set(offered)):
        raise InputError(
            "is no answer, so it cannot be defined",
            value=strange[0],
            where="annotate.definitions",
            fix=f"define any of {', '.join(offered)}",
        )
    return PageOptions(
        language=config.annotate.language,
        project=config.annotate.project,
        min_seconds=config.queue.min_seconds,
        definitions=tuple(Definition(reply, definitions[reply].text) for reply in offered if reply in definitions),
    )


class Guide:
    """The definitions of a run, and their pictures.

    Args:
        folder: Run directory.
        config: The run's configuration.
        findings: Classes an answer may name.
        asked: Scans that people are asked about: none of them is an example.

    Raises:
        InputError: when something is defined that is no answer.
    """

    def __init__(self, folder: Path, config: Config, findings: Sequence[str], asked: Collection[str]) -> None:
        self.folder, self.max_pixels = folder, config.pool.max_pixels
        options = page_options(config, findings)
        definitions = config.annotate.definitions
        named = {name for definition in definitions.values() for name in definition.examples}
        own, _ = uris_and_priors(folder, named)
        self._uris = [
            [own.get(name, name) for name in definitions[reply].examples if not _is_asked(name, asked, reply)]
            for reply in (definition.reply for definition in options.definitions)
        ]
        counted = zip(options.definitions, self._uris, strict=True)
        self.options = replace(options, definitions=tuple(replace(d, num_examples=len(uris)) for d, uris in counted))

    def example(self, definition: int, number: int) -> Path | None:
        """The PNG of an example; None where there is none.

        Args:
            definition: Place in `options.definitions`.
            number: Of its examples, from 0.

        Raises:
            DecodeError: when the file cannot be read.
        """
        if not (0 <= definition < len(self._uris) and 0 <= number < len(self._uris[definition])):
            return None
        uri = self._uris[definition][number]
        path = self.folder / run_files.EXAMPLES / f"{run_files.digest(uri)[:16]}.png"
        write_picture(path, uri, self.max_pixels)
        return path


def _is_asked(name: str, asked: Collection[str], reply: str) -> bool:
    """Whether an example is a scan that people are asked about; that would give its answer away."""
    if name in asked:
        log.warning("scan %s is asked for, so it is no longer shown as an example of %s", name, reply)
    return name in asked
