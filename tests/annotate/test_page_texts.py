"""The page's words stand in one file a language, and nowhere else."""

import json
import re

import pytest

from pipeline.annotate.page import markup, modules
from pipeline.annotate.page.backend import PageOptions
from pipeline.contracts.answers import REMARKS
from pipeline.contracts.finding_line import NONE
from pipeline.pages.served import doors, shared_files

LANGUAGES = ("en", "de")
TEMPLATES = (*modules.STATIC.glob("*.j2"), *doors.TEMPLATES.glob("*.j2"))
BLANK = re.compile(r"\{(\w+)\}")
# String literals that people read have a blank between two words; these have one too and are no words.
NO_WORDS = {
    "#rail button, .caption button",
    "input, textarea",
    "rotate( )",
    "translate(px, px)",
    "translate(px, px) scale()",
    " scale() translate(px, px) rotate(deg)",
    "M L ",
    "this page has no  #",  # of the page's own makers
    "no text ",
}


def scripts():
    return sorted([*modules.STATIC.glob("*.js"), *shared_files.STATIC.glob("*.js")])


def literals(script):
    """String literals of a script, without what is filled into them."""
    code = re.sub(r"/\*.*?\*/|(?<![:\"'])//[^\n]*", "", script, flags=re.DOTALL)
    code = re.sub(
        r"(?<=[(=,:\s])/(?![/*])(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\n\\])+/[a-z]*", "", code
    )  # regular expressions
    found = [a or b or c for a, b, c in re.findall(r'"((?:[^"\\\n]|\\.)*)"|\'((?:[^\'\\\n]|\\.)*)\'|`([^`]*)`', code)]
    return [re.sub(r"\$\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", "", text) for text in found]


def keys_used():
    used = set()
    for script in scripts():
        text = script.read_text("utf-8")
        used |= {literal for literal in literals(text) if re.fullmatch(r"[a-z_.]+", literal)}
        used |= set(re.findall(r'\bt\("([a-z_]+)"', text))  # also within a longer literal
    for template in TEMPLATES:
        used |= set(re.findall(r"\bt(?:\.|\[\")(\w+)", template.read_text("utf-8")))
    return used


def test_all_languages_have_the_same_texts_with_the_same_blanks():
    english, *others = (markup.texts(language) for language in LANGUAGES)
    for words in others:
        assert list(words) == list(english)
        for key, text in words.items():
            assert set(BLANK.findall(text)) == set(BLANK.findall(english[key])), key
            assert text.strip() == text != "", key
    assert {path.name for path in modules.STATIC.glob("texts.*.json")} == {f"texts.{code}.json" for code in LANGUAGES}


def test_each_file_names_its_keys_once():
    for language in LANGUAGES:
        pairs = json.loads(modules.asset(f"texts.{language}.json"), object_pairs_hook=list)
        assert len({key for key, _ in pairs}) == len(pairs)


def test_every_text_is_used_and_every_remark_has_one():
    words = markup.texts("en")
    used = keys_used()
    counted = {f"{key}_{end}" for key in used for end in ("one", "many")}
    replies = {f"reply.{reply}" for reply in (*REMARKS, NONE)}
    assert sorted(set(words) - used - counted - replies - {"round"}) == []
    assert replies <= set(words)


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_no_script_says_anything_by_itself(script):
    worded = [
        text
        for text in literals(script.read_text("utf-8"))
        if re.search(r"[^\W\d_]\s+[^\W\d_]|[^\W\d_]{2}[.!?…]$", text)
    ]
    assert [text for text in worded if text not in NO_WORDS and not text.startswith(("./", "reply."))] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_says_anything_by_itself(template):
    text = re.sub(
        r"\{\{.*?\}\}|\{%.*?%\}|<!doctype html>|<kbd.*?</kbd>", "", template.read_text("utf-8"), flags=re.DOTALL
    )
    shown = re.findall(r">([^<>]+)<", text) + re.findall(r'(?:aria-label|title|placeholder|alt)="([^"]*)"', text)
    assert [words.strip() for words in shown if re.search(r"[^\W\d_]", words)] == []


def test_the_page_and_who_has_no_link_are_spoken_to_in_the_language_asked_for():
    html = markup.page_html({"title": "Runde 1", **markup.offer(("normal",))}, PageOptions("de", "Thorax <2026>"))
    assert '<html lang="de">' in html and "Wer befundet?" in html and "Thorax &lt;2026&gt;" in html
    assert "Who is reading?" not in html
    assert "built-in" not in html and not set(markup.texts("de")) & set(dir(dict))  # a template would take its method
    assert "Diese Seite braucht ihren Link" in markup.doors("de").locked and 'lang="de"' in markup.doors("de").onward
