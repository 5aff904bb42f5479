"""Scripts and style that the pages of ours share; a page's own files stand in its own folder."""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
STYLE = "base.css"


def path_of(name: str, own: Path) -> Path:
    """Where a page's file lies: in its own folder, or among those that all share."""
    return path if (path := own / name).exists() else STATIC / name
