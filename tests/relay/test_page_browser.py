"""The live page in a real browser: what is asked for there happens, and what happens is seen there."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from page_lab import Fleet
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright
from relay_lab import LARGE, PATIENCE, Relay, until

from worker.embedded import EmbeddedRedis
from worker.journal import Journal, connect
from worker.runtime import Runtime
from worker.web.app import create
from worker.web.page.hub import READ_SECONDS

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
NASTY = "<script>window.bad=1</script>\"'&amp; שלום " + "x" * 206
"""As long as a name may be; a slash may be in none."""
WAIT = PATIENCE * 1000

pytestmark = [
    pytest.mark.timeout(300),  # a browser and a thousand guests, on a machine that may be busy
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed (scripts/prepare-tests)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One headless Chromium; no longer than this file, as no event loop can be run beside Playwright's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page, and everything that went wrong on it."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Take down errors, what the policy stopped, and what could not be loaded."""
        self.page.on(
            "console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def row(self, list_: str, domain: str) -> Any:
        """A migration's row in a list."""
        return self.page.locator(f'[data-list="{list_}"] > [data-item]').filter(has_text=domain)

    def ask(self, domain: str, destination: str) -> None:
        """Fill in the form, with the keyboard alone, and send it."""
        keys = self.page.keyboard
        self.page.get_by_label("Guest", exact=True).focus()
        keys.type(domain)
        keys.press("Tab")
        keys.type(destination)
        keys.press("Tab")
        keys.press("Tab")
        assert self.page.evaluate("document.activeElement.textContent") == "Move"
        keys.press("Enter")


@contextmanager
def tab(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    """A page in a context of its own, live; nothing may have gone wrong on it at the end."""
    context: BrowserContext = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    context.set_default_timeout(WAIT)
    expect.set_options(WAIT)
    try:
        opened = Tab(context.new_page())
        opened.watch()
        opened.page.goto(url)
        opened.page.wait_for_selector("html[data-live]")
        yield opened
        assert not opened.wrong
    finally:
        context.close()


@pytest.fixture
def url(relay: Relay) -> Iterator[str]:
    """``vmrelay web`` on the relay."""
    relay.spawn("page-web", "web", "--port", "0")
    found = until(lambda: re.search(r"http://127\.0\.0\.1:\d+/", relay.log("page-web")), "vmrelay web serves")
    assert found
    yield found[0]
    relay.kill("page-web")


def test_a_guest_is_moved_on_the_page(relay: Relay, url: str, browser: Browser) -> None:
    """Asked for, seen to move, cancelled and seen to stay; another one arrives; a host is cordoned; refusals are told.

    With the keyboard alone; and the hosts say the same as the page.
    """
    relay.empty()
    slow, quick = relay.vm(memory_mib=LARGE), relay.vm(name="quick-" + "q" * 8)
    nasty = relay.vm(host="gamma", name=NASTY)
    with tab(browser, url) as at:
        page, keys = at.page, at.page.keyboard
        page.get_by_text(slow, exact=True).first.wait_for()
        at.ask(slow, "beta")
        moving = at.row("moving", slow)
        moving.wait_for()
        expect(page.locator("#said")).to_contain_text("asked for")
        percent = moving.get_by_role("progressbar")
        until(lambda: int(percent.get_attribute("aria-valuenow") or 0) > 0, "it is seen to move")
        assert page.locator('[data-list="guests/beta"] [data-kind=arriving]').filter(has_text=slow).count() == 1
        cancel = page.get_by_role("button", name=f"Cancel {slow}")
        cancel.focus()
        keys.press("Enter")
        ended = at.row("recent", slow)
        expect(ended.locator(".outcome")).to_have_text("cancelled")
        assert moving.count() == 0
        assert page.evaluate("document.activeElement.id") == "moving", "the keyboard goes on from the heading"
        until(lambda: relay.where(slow) == {"alpha": "running"}, "it stays")
        expect(page.locator('[data-list="guests/alpha"]').get_by_text(slow, exact=True)).to_be_visible()

        at.ask(quick, "beta")
        expect(at.row("recent", quick).locator(".outcome")).to_have_text("succeeded")
        expect(page.locator('[data-list="guests/beta"]').get_by_text(quick, exact=True)).to_be_visible()
        expect(page.locator("#said")).to_contain_text("it is on beta")
        assert relay.where(quick) == {"beta": "running"}

        at.ask(quick, "beta")
        refused = page.locator("#said .refused")
        expect(refused.locator("code")).to_have_text("same-host")
        assert refused.get_attribute("role") == "alert"
        assert [wrong for wrong in at.wrong if "422" not in wrong] == []
        at.wrong.clear()  # the browser's own word for the refusal

        page.get_by_role("button", name="Cordon gamma…").focus()
        keys.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        keys.press("Escape")
        expect(dialog).to_be_hidden()
        assert relay.journal.cordons() == {}
        assert page.evaluate("document.activeElement.ariaLabel") == "Cordon gamma…", "focus comes back"
        keys.press("Enter")
        keys.type("<b>DIMMs</b>")
        keys.press("Enter")
        expect(page.locator('[data-item="h/gamma"]')).to_contain_text("(<b>DIMMs</b>)")
        page.get_by_role("button", name="Uncordon gamma").focus()
        keys.press("Enter")
        until(lambda: relay.journal.cordons() == {}, "gamma takes guests again")
        assert page.locator('[data-list="guests/gamma"] bdi').filter(has_text="<script>").count() == 1
        assert page.evaluate("window.bad") is None
        drained(at, relay, nasty)
        told(at, relay, slow)


def drained(at: Tab, relay: Relay, guest: str) -> None:
    """A drain is asked for in a dialog that names what it does; its batch is seen to its end."""
    before = len(relay.journal.batches())
    at.page.get_by_role("button", name="Drain gamma…").click()
    dialog = at.page.get_by_role("dialog")
    expect(dialog).to_contain_text("moved to other hosts")
    at.page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert len(relay.journal.batches()) == before, "whoever leans on Enter has not drained anything"
    at.page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Drain gamma").click()
    batch = at.row("batches", "drain gamma").first
    expect(batch.locator(".state")).to_have_text("finished")
    until(lambda: "gamma" not in relay.where(guest), "gamma is empty")
    at.page.get_by_role("button", name="Uncordon gamma").click()
    until(lambda: relay.journal.cordons() == {}, "gamma takes guests again")


def told(at: Tab, relay: Relay, domain: str) -> None:
    """One migration's own page: its phases by host, its events as they come, and what was said to it."""
    at.row("recent", domain).get_by_role("link").click()
    page = at.page
    page.wait_for_selector("html[data-live]")
    expect(page.locator(".headline .outcome")).to_have_text("cancelled")
    assert page.locator('[data-list="runs"] tr').count() == 5
    assert page.locator('[data-list^="bars/host:alpha"] [data-kind=perform][data-failed]').count() == 1
    expect(page.locator('[data-list="events"]')).to_contain_text("cancel asked for")
    page.get_by_role("button", name="Ask again").click()
    page.locator("#said a").click()
    page.wait_for_selector("html[data-live]")
    expect(page.locator(".headline")).to_contain_text("perform on alpha")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".headline .outcome")).to_have_text("cancelled")
    until(lambda: relay.where(domain) == {"alpha": "running"}, "it stays")


# -- many guests ------------------------------------------------------------------------------------------


HOSTS, GUESTS, MOVING, WAITING = 40, 1000, 100, 60
LEFT = MOVING // 2 - 1
"""So many move when half of them, and one more, have ended."""


@pytest.fixture
def fleet(private_redis: Any) -> Iterator[tuple[Fleet, EmbeddedRedis]]:
    """1,000 guests on 40 hosts, 100 of them moving, 60 waiting, one in doubt."""
    server = private_redis()
    journal = Journal(connect(server.url))
    fleet = Fleet(journal, HOSTS, server.url)
    each = GUESTS // HOSTS
    named = {host: [f"vm-{number:02}-{guest:02}" for guest in range(each)] for number, host in enumerate(fleet.names)}
    named[fleet.names[0]][0] = NASTY
    for number, host in enumerate(fleet.names):
        fleet.people(host, named[host], busy=0.3 + number / 60)
    pairs = [
        (named[host][k], host, fleet.names[(n + k + 1) % HOSTS]) for k in range(5) for n, host in enumerate(fleet.names)
    ]
    for number, (guest, source, destination) in enumerate(pairs[:MOVING]):
        fleet.perform(fleet.ask(f"run-{number}", guest, source, destination), number % 90)
    guest, source, destination = pairs[-1]
    fleet.perform(fleet.ask("doubtful", guest, source, destination), 50)
    fleet.doubt("doubtful", "it runs on both sides: <b>stop one at once</b>")
    for number, (guest, source, destination) in enumerate(pairs[MOVING : MOVING + WAITING]):
        fleet.ask(
            f"wait-{number}", guest, source, destination, start=False, priority="high" if number % 3 else "normal"
        )
    yield fleet, server
    journal.client.close()


@contextmanager
def serving(fleet: Fleet, port: int = 0) -> Iterator[str]:
    """The web server over this journal, in a thread; where it is."""
    app = create(Runtime(fleet.settings, fleet.inventory, fleet.journal))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "it serves")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        app.state.desk.streams.closing.set()
        server.should_exit = True
        thread.join(PATIENCE)


CONTRAST = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (el) => {
    for (let at = el; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0.99) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const seen = new Map();
  for (const el of document.querySelectorAll('body *')) {
    const kind = [el, el.parentElement, el.closest('li, tr')]
      .map((each) => each && [each.localName, each.className, JSON.stringify(each.dataset.kind)]).join();
    seen.set(kind, (seen.get(kind) || 0) + 1);
    if (seen.get(kind) > 3) continue; // thousands are of one kind
    const own = [...el.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !el.checkVisibility() || el.closest('svg, option, .hidden')) continue;
    const [a, b] = [light(channels(getComputedStyle(el).color)), light(ground(el))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${el.className || el.localName} ${el.textContent.slice(0, 30)}`);
  }
  return [...new Set(poor)].slice(0, 10);
}"""
"""Text that WCAG's AA finds hard to read."""
NAMELESS = """() => [...document.querySelectorAll('a[href], button, input, select, [role=progressbar], [role=meter]')]
  .filter((el) => el.checkVisibility() && !(el.ariaLabel || el.textContent.trim() || el.labels?.length || el.title))
  .map((el) => el.outerHTML.slice(0, 100)).slice(0, 10)"""
"""What a screen reader could not name."""
SHOWN = """() => {
  const told = (item) => {
    const copy = item.cloneNode(true);
    copy.querySelectorAll('[data-item], time').forEach((inner) => inner.remove());
    return [item.dataset.item, item.dataset.kind || '', copy.textContent.replace(/\\s+/g, ' ')].join(' ');
  };
  const all = (page) => [...page.querySelectorAll('main [data-item]')].map(told);
  const fresh = (html) => new DOMParser().parseFromString(html, 'text/html');
  return fetch('/').then((answer) => answer.text()).then((html) => [all(document), all(fresh(html))]);
}"""
"""Everything on the page, and everything on it if it were loaded anew."""


def test_a_thousand_guests_are_shown_and_kept_up_to_date(fleet: tuple[Fleet, EmbeddedRedis], browser: Browser) -> None:
    """Light and dark, wide and narrow, found, updated in place, in doubt with its command, and old when it is old."""
    lab, server = fleet
    with ExitStack() as first:
        url = first.enter_context(serving(lab))
        with tab(browser, url, color_scheme="light") as at:
            readable(at)
            updated(at, lab)
            older_than_its_stream(browser, url, lab)
            redis_is_away(at, server)
            first.close()
            stale = at.page.get_by_role("alert").filter(has_text="Connection lost")
            expect(stale).to_contain_text(re.compile(r"is \d+ s old"))
            with serving(lab, urlsplit(url).port or 0):
                expect(stale).to_be_hidden()
                lab.progress("run-1", 97)
                expect(at.page.locator('[data-item="m/run-1"] .percent')).to_have_text("97 %")
                reading_without_javascript(browser, url)
            at.wrong = [wrong for wrong in at.wrong if "net::ERR_" not in wrong]


def readable(at: Tab) -> None:
    """Everything is there, named, and to be read in light and dark; nothing moves for those who do not want it."""
    page = at.page
    assert page.locator(".guests > li").count() == GUESTS + MOVING
    assert page.locator(".moves > li").count() == MOVING
    assert page.locator('[data-list="queue"] > tr').count() == WAITING
    doubt = page.locator(".doubts li")
    assert doubt.locator("code").inner_text() == "vmrelay resolve doubtful"
    expect(doubt).to_contain_text("<b>stop one at once</b>")
    expect(page).to_have_title("1 in doubt · vmrelay")
    assert page.evaluate("window.bad") is None
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate(CONTRAST) == [], scheme
    assert page.evaluate(NAMELESS) == []
    duration = "getComputedStyle(document.querySelector('.done')).transitionDuration"
    assert page.evaluate(duration) == "0.6s"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(duration) == "0s"
    page.keyboard.press("/")
    page.keyboard.type("node-07")
    assert page.locator(".host:visible").count() < 12
    page.keyboard.press("Escape")
    expect(page.locator(".host:visible")).to_have_count(HOSTS)


def updated(at: Tab, lab: Fleet) -> None:
    """What changes is patched in place; in the end the page is what it would be if it were loaded anew."""
    page = at.page
    page.evaluate("window.kept = document.querySelector('[data-item=\"m/run-7\"]')")
    for number in range(MOVING):
        lab.progress(f"run-{number}", 91)
    for number in (7, MOVING - 1):
        expect(page.locator(f'[data-item="m/run-{number}"] .percent')).to_have_text("91 %")
    assert page.evaluate("window.kept === document.querySelector('[data-item=\"m/run-7\"]')")
    for number in range(0, MOVING, 2):
        lab.end(f"run-{number}")
    expect(page.locator(".moves > li")).to_have_count(MOVING // 2)
    until(lambda: (seen := page.evaluate(SHOWN))[0] == seen[1], "it shows what a page loaded anew shows")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than a phone"


def older_than_its_stream(browser: Browser, url: str, lab: Fleet) -> None:
    """What has changed between the page and its stream is put right by the first view."""
    context = browser.new_context()
    page = context.new_page()

    def late(route: Route) -> None:
        for number in range(1, MOVING, 2):
            lab.progress(f"run-{number}", 95)
        lab.end("run-3")
        lab.journal.cordon(lab.names[3], "anna", "DIMMs")
        time.sleep(READ_SECONDS)
        route.continue_()

    page.route("**/live", late)
    page.goto(url)
    page.wait_for_selector("html[data-live]")
    assert page.locator("[data-item='m/run-3']").count() == 0
    until(lambda: (seen := page.evaluate(SHOWN))[0] == seen[1], "it shows what a page loaded anew shows")
    lab.journal.uncordon(lab.names[3])
    context.close()


def redis_is_away(at: Tab, server: EmbeddedRedis) -> None:
    """That is said, and what was there before stays to be read; when it is back, it is as before."""
    away = at.page.get_by_role("alert").filter(has_text="Redis does not answer")
    server.kill()
    expect(away).to_be_visible()
    assert at.page.locator(".moves > li").count() == LEFT
    server.restart()
    expect(away).to_be_hidden()


def reading_without_javascript(browser: Browser, url: str) -> None:
    """Everything is there to read; the page loads itself anew, and offers nothing that would not work."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    assert page.locator(".moves > li").count() == LEFT
    assert page.get_by_role("button").count() == 0
    assert page.locator('meta[http-equiv="refresh"]').count() == 1
    context.close()
