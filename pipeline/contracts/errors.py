"""Errors a user can act on: what is wrong, which value, where, and the way out."""


class CxrSslError(Exception):
    """A failure with a message for the user; the CLI prints it and exits with `exit_code`.

    Args:
        what: What is wrong, in one clause.
        value: The offending value, if one exists.
        where: File, line, column, stage or option.
        fix: How to get out of it.
    """

    exit_code = 1

    def __init__(self, what: str, *, value: object = None, where: object = None, fix: str | None = None) -> None:
        self.what, self.value, self.where, self.fix = what, value, where, fix
        text = what if where is None else f"{where}: {what}"
        if value is not None:
            text += f" (got {value!r})"
        if fix is not None:
            text += f". {fix[0].upper()}{fix[1:]}"
        super().__init__(text if text.endswith((".", "?", "!")) else text + ".")


class InputError(CxrSslError):
    """Wrong usage or input: a pool, a file, a label, an option."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration that cannot be used; carries every mistake found, one per line."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        CxrSslError.__init__(self, "\n".join(mistakes))


class ContractError(CxrSslError):
    """A table that breaks its contract: our own mistake or a file changed by hand."""


class RunDirError(InputError):
    """A run directory that is not ours, is in use, or holds another run."""


class RunBusy(RunDirError):  # noqa: N818 - a state of the run, not a mistake
    """Another process works in the run directory."""


class StorageError(CxrSslError):
    """Storage that fails and goes on failing."""


class EngineError(CxrSslError):
    """The cluster cannot do what is asked of it."""


class WaitingForLabels(CxrSslError):  # noqa: N818 - a state of the run, not a mistake
    """The run stops here until experts have answered its queue."""

    exit_code = 3


class Stopped(CxrSslError):  # noqa: N818 - the user's wish, not a mistake
    """A signal ended the command; its number and 128 are the exit code."""

    exit_code = 130  # of Ctrl-C


class AuditBlocked(CxrSslError):  # noqa: N818 - a verdict of the audit
    """An audit check blocks the run."""

    exit_code = 4


def no_gpu() -> InputError:
    """The error of `engine.use_gpu: true` on a machine or cluster without one."""
    return InputError(
        "a GPU is asked for and there is none",
        value="true",
        where="engine.use_gpu",
        fix="leave it out to use a GPU where there is one, or run `cxr-ssl doctor` to see what is found",
    )
