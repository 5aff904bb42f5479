"""A real browser for the labelling page, and servers: one in a thread, one in a process that can be killed."""

import contextlib
import subprocess
import sys
import threading
import weakref
from pathlib import Path

from tests.support.groups import chromium_program

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TOKEN = "a-token-for-tests"
_PROFILES = weakref.WeakKeyDictionary()  # of each browser its profiles, by their options
# A page's waits last a tenth: for the eyes to settle on a scan, and until it asks a server again that was away.
HURRY = """const later = window.setTimeout;
window.setTimeout = (work, ms, ...more) => later(work, ms >= 150 ? ms / 10 : ms, ...more);"""


@contextlib.contextmanager
def chromium():
    """Headless Chromium of the system."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_program(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def fresh_page(browser, *, hurried=True, silent=False, own_profile=False, **more):
    """A page that no other test's is known to; a script's error fails the test, a `silent` page's on the console too.

    Pages of like options are of one profile, emptied after each: to start its processes anew takes longer than a test.
    What files of the disk keep in it is emptied some time later, so that pages opened from there have a profile of
    their own.
    """
    context = _new_profile(browser, hurried, more) if own_profile else _profile(browser, hurried, more)
    left_open = context.pages
    opened, mistakes = context.new_page(), []
    opened.on("pageerror", lambda error: mistakes.append(str(error)))
    if silent:
        opened.on("console", lambda message: mistakes.append(message.text) if message.type == "error" else None)
    try:
        yield opened
    finally:
        if own_profile:
            context.close()
        else:
            _empty(context, left_open)
    assert mistakes == []


def _profile(browser, hurried, more):
    """The profile of these options; it ends with the browser."""
    profiles = _PROFILES.setdefault(browser, {})
    key = repr((hurried, sorted(more.items())))
    if key not in profiles:
        profiles[key] = _new_profile(browser, hurried, more)
    return profiles[key]


def _new_profile(browser, hurried, more):
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}} | more)
    if hurried:
        context.add_init_script(HURRY)
    return context


def _empty(context, left_open):
    """Close a test's pages and forget what they kept; one page stays open, or the profile's processes would end."""
    pages = [page for page in context.pages if page not in left_open]
    if not left_open:
        pages.pop(0).goto("about:blank")
    for page in pages:
        page.close()
    session = context.new_cdp_session(context.pages[0])
    session.send("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
    session.detach()
    context.clear_cookies()


@contextlib.contextmanager
def listening(desk, http=None, **more):
    """The labelling page on a free port, in a thread; gives its address; `http` is the server's protocol."""
    from pipeline.annotate.page import server

    with served(server.app(desk, TOKEN, **more), http) as base:
        yield base


@contextlib.contextmanager
def served(page, http=None):
    """A page of ours on a free port, in a thread; gives its address."""
    import uvicorn

    from pipeline.pages.served import listening as server
    from pipeline.pages.served import slow_senders

    sock = server.listening_socket("127.0.0.1", 0)
    config = uvicorn.Config(
        page,
        http=http or slow_senders.protocol(),
        lifespan="off",
        access_log=False,
        log_config=None,
        ws="none",
        timeout_graceful_shutdown=1,
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(20)
        sock.close()


class Served:
    """`module FOLDER PORT TOKEN …` as a process; it prints the link of its page when it is ready."""

    def __init__(self, folder, *rest, module="tests.support.fake_page_session"):
        self.folder, self.rest, self.module, self.port = folder, rest, module, 0
        self.process, self.link = None, None

    def start(self, token=TOKEN):
        argv = [sys.executable, "-m", self.module, str(self.folder), str(self.port), token, *map(str, self.rest)]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.link = self.process.stdout.readline().strip()
        assert self.link.startswith("http://127.0.0.1:"), "the server did not start"
        self.port = int(self.link.split(":")[2].partition("/")[0])
        return self.link

    def kill(self):
        """As `kill -9` does."""
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        self.process.stdout.close()


def press(page, key):
    """Answer the scan shown; returns its id once it is gone from the screen."""
    scan = wait_ready(page)
    page.keyboard.press(key)
    page.wait_for_function("scan => document.body.dataset.scan !== scan", arg=scan)
    return scan


def sit_down(page, link, name):
    """Open the link and give a name; the first scan is on the screen on return."""
    page.goto(link)
    page.fill("#name", name)
    page.press("#name", "Enter")
    wait_ready(page)


def wait_sent(page, num_left=0):
    """Wait until the server has every answer of this page: it shows the next scan before.

    `num_left` items of others may wait in the browser. A function, as everywhere: the page's policy lets no bare
    expression be looked at a second time.
    """
    page.wait_for_function(
        "num => Object.keys(localStorage).filter((key) => key.startsWith('cxr-ssl|')).length === num", arg=num_left
    )


def wait_counted(page, num):
    """Wait until the page counts `num` scans as answered and nothing waits to be sent."""
    page.wait_for_function(f"() => document.getElementById('count').textContent.startsWith('{num} of')")
    page.wait_for_selector("#banner", state="hidden")
    wait_sent(page)


def wait_ready(page):
    """Wait until the scan shown takes an answer; returns its id."""
    page.wait_for_selector("body[data-ready=true]")
    return page.get_attribute("body", "data-scan")
