"""The page's scripts: modules that a browser finds by itself, or all of them in one script of a file."""

import json
import re

import pytest

from pipeline.annotate.page import markup, modules
from pipeline.annotate.page.backend import Task
from pipeline.annotate.page.offline import offline_html
from pipeline.pages.served import shared_files
from tests.support.browser import TOKEN, listening, press, sit_down, wait_ready
from tests.support.fake_page_session import FINDINGS, FakeDesk, draw, image_id

ENTRIES = (markup.ONLINE, markup.OFFLINE)


@pytest.fixture(scope="module")
def page(browser):
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Other modules than the page's, by name."""

    def forget():
        for cached in (modules.asset, modules.needed, modules.bundled):
            cached.cache_clear()

    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.js").write_text(text, "utf-8")

    monkeypatch.setattr(modules, "STATIC", tmp_path)
    forget()
    yield write
    forget()


@pytest.fixture
def watched(page):
    """The page, and what it asks for and complains of."""
    asked, mistakes = [], []
    heard = {
        "request": lambda request: asked.append(request.url),
        "pageerror": lambda error: mistakes.append(str(error)),
        "console": lambda message: mistakes.append(message.text) if message.type == "error" else None,
    }
    for event, listener in heard.items():
        page.on(event, listener)
    yield page, asked
    for event, listener in heard.items():
        page.remove_listener(event, listener)
    assert mistakes == []


def offline(num=2):
    tasks = [Task(image_id(i), i + 1) for i in range(num)]
    return offline_html(tasks, FINDINGS, annotator="Anna", round_index=2, run="run-1", title="Round 2")


def test_every_script_is_needed_by_a_page_and_no_other_is_served():
    there = {path.name for folder in (modules.STATIC, shared_files.STATIC) for path in folder.glob("*.js")}
    assert there == {n for e in ENTRIES for n in modules.needed(e)}
    served = {name for name, kind in markup.TYPES.items() if kind == "text/javascript"}
    assert served == set(modules.needed(markup.ONLINE))
    assert "offline.js" not in served and "online.js" not in modules.needed(markup.OFFLINE)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_module_stands_after_all_it_imports(entry):
    names = modules.needed(entry)
    assert names[-1] == entry and len(set(names)) == len(names) > 20
    for i, name in enumerate(names):
        imported = re.findall(r'from "\./([^"]+)";', modules.asset(name))
        assert set(imported) <= set(names[:i]), name


def test_the_file_carries_one_script_that_its_policy_names():
    html = offline()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    (script,) = re.findall(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    assert rules["default-src"] == "'none'" and rules["script-src"] == markup.content_hash(script)
    assert html.count("<script") == 2  # that one, and the config as JSON
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)


def test_a_file_asks_for_its_pictures_and_for_nothing_else(watched, tmp_path):
    page, asked = watched
    draw(tmp_path / "images", 2)
    (tmp_path / "label.html").write_text(offline(), "utf-8")
    page.goto((tmp_path / "label.html").as_uri())
    press(page, "1")
    press(page, "2")
    page.wait_for_selector("body[data-state=done]")
    base = tmp_path.as_uri()
    wanted = {f"{base}/label.html", *(f"{base}/images/{image_id(i)}.png" for i in range(2))}
    assert {url for url in asked if not url.startswith("data:")} == wanted


def test_a_served_page_loads_each_of_its_modules_once(watched, tmp_path):
    page, asked = watched
    draw(tmp_path / "images", 2)
    with listening(FakeDesk(tmp_path, 2)) as base:
        sit_down(page, f"{base}/?token={TOKEN}", "Anna")
        wait_ready(page)
    loaded = [url.removeprefix(f"{base}/static/") for url in asked if url.endswith(".js")]
    assert sorted(loaded) == sorted(modules.needed(markup.ONLINE))


def test_what_is_put_together_does_what_the_modules_do(page, write, tmp_path):
    write(
        words='export const SIGN = "!";\nconst own = 1;\nexport const shout = (text) => text + SIGN + own;\n',
        kinds="export class Kind {\n  name = own();\n}\nfunction own() {\n  return 'kind';\n}\n",
        late="export async function later(value) {\n  return value;\n}\n",
        top="""import { Kind } from "./kinds.js";
import { later } from "./late.js";
import {
  shout,
  SIGN,
} from "./words.js";

const own = await_();
function await_() {
  return later([shout(new Kind().name), SIGN]);
}
own.then((value) => {
  document.title = JSON.stringify(value);
});
""",
    )
    path = tmp_path / "page.html"
    path.write_text(f'<!doctype html><script type="module">{modules.bundled("top.js")}</script>', "utf-8")
    page.goto(path.as_uri())
    page.wait_for_function("() => document.title")
    assert json.loads(page.title()) == ["kind!1", "!"]


@pytest.mark.parametrize(
    "text",
    [
        "export default class {}",
        "export let value = 1;",
        "export { one };",
        'export * from "./words.js";',
        'import "./words.js";',
        'import all from "./words.js";',
        'import * as all from "./words.js";',
        'import { one } from "https://example.org/one.js";',
        'import { one } from "../one.js";',
        "const lazy = () => import('./words.js');",
        "const here = import.meta.url;",
        "const end = '</script>';",
        "const start = '<!--';",
    ],
    ids=str,
)
def test_what_cannot_be_put_together_is_refused(write, text):
    write(words="export const one = 1;\n", top=f"const before = 1;\n{text}\n")
    with pytest.raises(ValueError, match="cannot stand in a page's script"):
        modules.bundled("top.js")


def test_modules_that_import_each_other_are_refused(write):
    write(
        one='import { two } from "./two.js";\nexport const one = two;\n',
        two='import { one } from "./one.js";\nexport const two = one;\n',
    )
    with pytest.raises(ValueError, match=r"one\.js -> two\.js -> one\.js"):
        modules.needed("one.js")
