"""The templates of the report's pages: the report's own, those of the audit, and what all pages share."""

from pathlib import Path

from jinja2 import Environment

from pipeline.audit import page as audit_page
from pipeline.pages import template_env


def environment() -> Environment:
    """The jinja2 environment of the report; see `template_env.environment`."""
    return template_env.environment(Path(__file__).parent / "templates", audit_page.TEMPLATES)
