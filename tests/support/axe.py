"""Asks axe-core whom a page shuts out: https://github.com/dequelabs/axe-core, as `npm ci` installs it."""

from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
ASK = "() => axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)"


def violations(page):
    """Rules that an open page breaks, each with its severity and the elements; its policy must let scripts in."""
    page.evaluate(f"{SCRIPT.read_text('utf-8')};0")
    return [(rule["id"], rule["impact"], [node["html"] for node in rule["nodes"]]) for rule in page.evaluate(ASK)]
