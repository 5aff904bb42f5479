"""cxr-ssl: label-efficient chest X-ray classification with evidence a reviewer accepts."""

from importlib import metadata

try:
    __version__ = metadata.version("cxr-ssl")
except metadata.PackageNotFoundError:  # an uploaded working directory of a Ray job, not installed
    __version__ = "0+source"
