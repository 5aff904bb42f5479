"""What was forgiven, skipped or left out: each counted, said once as it is met, and kept for the run's record."""

import logging
from dataclasses import dataclass, field

_log = logging.getLogger(__name__)


@dataclass
class Notes:
    """Lines for people about one pool or one file of answers.

    Attributes:
        where: The file or folder they are about.
        lines: What was said, in order.
    """

    where: str
    lines: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Say what may be wrong, or changes what the data say."""
        self._say(logging.WARNING, text)

    def mention(self, text: str) -> None:
        """Say what changes no value: how a file is written."""
        self._say(logging.INFO, text)

    def _say(self, level: int, text: str) -> None:
        if text not in self.lines:
            self.lines.append(text)
            _log.log(level, "%s: %s", self.where, text)


def listed(names: object, most: int = 5) -> str:
    """`'a', 'b' and 3 more`, each quoted as Python does."""
    shown = [repr(name) for name in names]  # type: ignore[attr-defined]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def counted(number: int, what: str) -> str:
    """`1 row`, `3 rows`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
