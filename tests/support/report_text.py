"""What a reader finds on a page of the report: its words, its tables, and whether it stands alone."""

import html as html_module
import re

HOSTILE = '<script>alert("x")</script>'


def words_of(raw):
    """The page's words as a reader sees them."""
    raw = re.sub(r"<(style|script)\b.*?</\1>", " ", raw, flags=re.DOTALL)
    return " ".join(html_module.unescape(re.sub(r"<[^>]+>", " ", raw)).split())


def table_under(raw, label):
    """The body of the table in the region called `label`, as rows of words."""
    body = raw.split(f'aria-label="{label}"')[1].split("<tbody>")[1].split("</tbody>")[0]
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in body.split("</tr>") if "<t" in row]
    return [[html_module.unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in cells]


def stands_alone(raw):
    """Nothing is loaded from elsewhere, ids are unique, and every reference has a target."""
    bare = re.sub(r"base64,[A-Za-z0-9+/=]+", "", raw)
    outside = [u for u in re.findall(r"(?:https?:)?//[\w.-]+", bare) if "www.w3.org" not in u]
    ids = re.findall(r'\bid="([^"]+)"', raw)
    targets = set(re.findall(r'(?:href="|url\()#([^")]+)', raw)) | set(re.findall(r'aria-labelledby="([^"]+)"', raw))
    return outside == [] and len(ids) == len(set(ids)) and targets <= set(ids) and raw.count("<h1") == 1


def says_nothing_broken(raw):
    """No value leaked as Python or JavaScript writes a missing one."""
    return not re.search(r"\b(None|nan|NaN|undefined|inf)\b", words_of(raw))


def hostile(value):
    """Every text in a JSON value, keys aside, with markup in it."""
    if isinstance(value, dict):
        return {key: hostile(v) for key, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) else value
