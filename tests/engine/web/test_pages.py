"""The pages in a real browser, headless Chromium, in front of an engine in another process."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

pytest.importorskip("nicegui", reason='the web view needs: pip install "cascade-engine[web]"')
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the tests of pages need: pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="the tests of pages need Chromium: apt-get install chromium"
    ),
    pytest.mark.timeout(120),
]

HERE = Path(__file__).parent
PHONE = {"width": 390, "height": 844}


class Started:
    """A process that says that it is ready in a line, and is ended at the end of the tests."""

    def __init__(self, folder, *words):
        self.process = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self):
        said = self.process.stdout.readline()
        assert said, f"{self.process.args} has ended"
        return said.strip()

    def tell(self, said):
        """Write it a line, and wait for the answer."""
        self.process.stdin.write(said + "\n")
        self.process.stdin.flush()
        return self.line()

    def end(self):
        self.process.terminate()
        self.process.communicate(timeout=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("r")


@pytest.fixture(scope="module")
def engine(folder):
    started = Started(folder, str(HERE / "watched_engine.py"))
    assert started.line() == "ready"
    yield started
    started.end()


def served(folder, *options):
    started = Started(folder, "-m", "cascade", "web", "--no-open", "--port", "0", *options)
    return started, re.search(r"http\S+", started.line())[0]


@pytest.fixture(scope="module")
def stored(folder):
    """Options for a store with three runs, and a cache."""
    flows = folder / "flows_of_pages.py"
    shutil.copy(HERE / "stored_flows.py", flows)
    store, cache = f"sqlite:///{folder}/runs.db", f"sqlite:///{folder}/cache.db"
    subprocess.run([sys.executable, flows, store, cache], cwd=folder, check=True)
    return [f"{flows}:report", "--store", store, "--cache", cache]


@pytest.fixture(scope="module")
def url(folder, engine, stored):
    started, url = served(folder, *stored)
    yield url
    started.end()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page that was opened with the token, what it has asked for, and what it complained of."""

    def __init__(self, browser, url, **options):
        self.base = url.partition("/?")[0]
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.faults, self.elsewhere = [], []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(dialog.message))
        self.page.on("request", self._note)
        self.page.goto(url)

    def _note(self, request):
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.elsewhere.append(request.url)

    def go(self, path):
        self.page.goto(self.base + path)
        return self.page

    def see(self, text):
        """Wait until the page shows a text."""
        sync_api.expect(self.page.locator("body")).to_contain_text(text, timeout=20_000)

    def overflow(self):
        """Pixels by which the page is wider than the screen."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.fixture
def visit(browser, url):
    visits = []

    def visit(**options):
        visits.append(Visit(browser, url, **options))
        return visits[-1]

    yield visit
    for one in visits:
        one.context.close()
        assert one.faults == []
        assert one.elsewhere == []


def test_the_overview_shows_the_engine_its_runs_and_what_waits(visit):
    seen = visit()
    seen.see("shop-engine")
    seen.see("agent-0")
    seen.see("concurrency task:fetch 2")
    assert "token" not in seen.page.url


def test_without_the_token_nothing_is_shown(url):
    with pytest.raises(HTTPError) as refused, urlopen(url.partition("/?")[0]):
        pass
    assert refused.value.code == 401
    refused.value.close()


def test_the_graph_of_a_run_shows_live_states_and_is_used_by_keyboard(visit, engine):
    seen = visit()
    page = seen.go("/run?engine=shop-engine&run=flow")
    seen.see("3 running")
    canvas = page.locator("canvas[data-nodes]:not([data-nodes='0'])")
    canvas.wait_for()  # until the graph is drawn
    canvas.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    seen.see("called at")
    page.keyboard.press("0")
    page.keyboard.press("+")


def test_a_graph_of_5000_nodes_is_drawn_and_zoomed_without_freezing(visit):
    seen = visit()
    page = seen.go("/run?engine=shop-engine&run=wide")
    canvas = page.locator("canvas[data-nodes='5002']")
    canvas.wait_for()
    canvas.focus()
    slowest = 0.0
    for key in ("+", "+", "+", "ArrowRight", "-", "0"):
        page.keyboard.press(key)
        page.wait_for_timeout(60)
        slowest = max(slowest, float(canvas.get_attribute("data-milliseconds")))
    assert slowest < 1000  # a frame; some tens of milliseconds on a machine of its own


def test_an_error_is_shown_as_text_with_traceback_and_call_site(visit, engine):
    seen = visit()
    page = seen.go("/run?engine=shop-engine&run=broken")
    seen.see("1 running")
    assert engine.tell("break") == "broken"
    page.get_by_role("tab", name="Errors").click()
    seen.see("ValueError: no shop <img src=x onerror=alert(1)>")
    seen.see("Traceback (most recent call last)")
    seen.see("in task 'breaks', called at")
    assert page.locator("img[src='x']").count() == 0


def test_lines_of_the_log_are_shown_with_their_run(visit, engine):
    seen = visit()
    page = seen.go("/run?engine=shop-engine&run=flow")
    page.get_by_role("tab", name="Log").click()
    page.wait_for_timeout(1500)  # until the engine was asked
    assert engine.tell("log") == "logged"
    page.get_by_text("of all runs").click()
    seen.see("only <b>3</b> left")


def test_a_limit_is_set_and_removed(visit):
    seen = visit()
    page = seen.go("/limits")
    page.get_by_label("Scope").fill("task:nothing")
    page.get_by_label("Calls at once").fill("many")
    page.get_by_role("button", name="Set", exact=True).click()
    seen.see("the number of calls must be a whole number, but is 'many'")
    page.get_by_label("Calls at once").fill("7")
    page.get_by_role("button", name="Set", exact=True).click()
    seen.see("concurrency task:nothing 7: holds for shop-engine")
    row = page.locator("tr", has_text="task:nothing")
    row.get_by_role("button", name="Remove").click()
    sync_api.expect(row).to_have_count(0)


def test_a_run_is_cancelled_after_a_question(visit):
    seen = visit()
    page = seen.go("/run?engine=shop-engine&run=to-cancel")
    page.get_by_role("button", name="Cancel the run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
    seen.see("cancelled")


def test_a_view_that_may_only_look_has_nothing_to_press(browser, folder, engine):
    started, url = served(folder, "--read-only")
    try:
        seen = Visit(browser, url)
        page = seen.go("/limits")
        seen.see("This view is read-only.")
        seen.see("task:fetch")
        assert page.get_by_role("button", name=re.compile("Set|Remove|Pause")).count() == 0
        seen.go("/run?engine=shop-engine&run=flow")
        seen.see("3 running")
        assert page.get_by_role("button", name="Cancel the run").count() == 0
        seen.context.close()
    finally:
        started.end()


def test_an_agent_is_found_and_paused_with_all_of_its_task(visit):
    seen = visit()
    page = seen.go("/agents")
    seen.see("agent-19")
    page.get_by_label("Find runs").fill("agent-7")
    seen.see("1 of ")
    row = page.locator("tr", has_text="clean_up")
    row.get_by_role("button", name="Pause").click()
    seen.see("pause task:clean_up: holds for shop-engine")
    row.get_by_role("button", name="Resume").click()
    seen.see("no more pause task:clean_up: holds for shop-engine")
    row.get_by_role("button", name="Limit…").click()
    sync_api.expect(page.get_by_label("Scope")).to_have_value("task:clean_up")


def test_a_signal_is_sent_by_the_form_of_its_class(visit):
    seen = visit()
    page = seen.go("/agents")
    page.get_by_label("Find runs").fill("letter-1")
    page.get_by_role("button", name="Answer…").click()
    page.get_by_role("checkbox", name="ok").click()
    page.get_by_label("copies").fill("two")
    page.get_by_role("button", name="Send").click()
    seen.see("copies must be a whole number, but is 'two'")
    page.get_by_label("copies").fill("2")
    page.get_by_role("button", name="Send").click()
    seen.see("sent approval")
    seen.go("/")
    seen.see("letter-1")


def test_a_durable_run_is_found_inspected_compared_forked_and_resumed(visit):
    seen = visit()
    page = seen.go("/history")
    page.get_by_role("link", name="bad").click()
    seen.see("ValueError: scale is -1 <b>x</b>")
    seen.see("load")
    page.get_by_role("button", name="Resume").click()
    seen.see("enqueued")
    seen.go("/history/compare?left=one&right=two")
    seen.see("differs")
    page = seen.go("/history/run?run=one")
    page.get_by_role("button", name="Fork…").click()
    page.get_by_label("scale").fill("3")
    page.get_by_role("button", name="Fork", exact=True).click()
    seen.see("fork of")


def test_the_cache_shows_what_it_keeps_and_which_calls_are_hits(visit):
    seen = visit()
    page = seen.go("/cache")
    seen.see("flows_of_pages:load")
    page.get_by_role("button", name="Look").click()
    seen.see("hit")


PATHS = ["/", "/limits", "/agents", "/history", "/history/run?run=one", "/cache"]


@pytest.mark.parametrize("path", [*PATHS, "/run?engine=shop-engine&run=flow"])
def test_each_page_fits_a_phone_and_follows_the_colours_of_the_system(visit, path):
    seen = visit(viewport=PHONE, color_scheme="light")
    page = seen.go(path)
    page.wait_for_timeout(1500)
    ground = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    for scheme, is_so in (("light", f"{ground} > 200"), ("dark", f"{ground} < 80")):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(is_so)
        assert seen.overflow() <= 0


def test_the_colours_that_were_chosen_are_kept(visit):
    seen = visit(color_scheme="light")
    page = seen.page
    page.get_by_role("button", name="Colours: auto").click()
    page.get_by_role("button", name="Colours: dark").wait_for()
    page.reload()
    page.get_by_role("button", name="Colours: dark").wait_for()
    assert page.locator("body.body--dark").count() == 1
