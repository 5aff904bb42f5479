"""The one error of a scan that cannot be used."""

from pipeline.contracts.errors import CxrSslError


class DecodeError(CxrSslError):
    """A scan that cannot be used; the message is the reason of its row in the manifest."""
