"""The pages over HTTP: who sees what, signing in, headers, and one reader for all who watch."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from page_lab import Fleet
from starlette.testclient import TestClient

from worker.journal import Journal, connect
from worker.runtime import Runtime
from worker.settings import WebSettings
from worker.web.app import create
from worker.web.page import hub
from worker.web.page.hub import Hub
from worker.web.page.rendering import build
from worker.web.page.routes import _local
from worker.web.page.view import View, applied
from worker.web.tokens import make

OWN = {"sec-fetch-site": "same-origin"}
"""What a browser says of a form on the page itself."""


@pytest.fixture
def fleet(redis_url: str) -> Iterator[Fleet]:
    """Two hosts, three guests, one of them moving."""
    journal = Journal(connect(redis_url))
    fleet = Fleet(journal, 2, redis_url)
    fleet.people("node-00", ["web-1", "<script>bad</script>", "db-1"])
    fleet.people("node-01", ["mail-1"])
    fleet.perform(fleet.ask("run-1", "web-1", "node-00", "node-01"), 40)
    yield fleet
    journal.client.close()


def client(fleet: Fleet, **web: Any) -> TestClient:
    """A browser, as it were."""
    fleet.settings.web = WebSettings(**web)
    return TestClient(create(Runtime(fleet.settings, fleet.inventory, fleet.journal)), base_url="http://localhost")


def token(file: Path, name: str, role: str) -> str:
    """A token of the file."""
    return make(file, name, role, speaks_for_others=False, expires=None, replace=False)


def test_the_overview_is_all_there_without_a_script(fleet: Fleet) -> None:
    """Hosts, guests and what moves are in the HTML itself, escaped, under a policy that lets nothing else in."""
    with client(fleet) as browser:
        answer = browser.get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    for text in ("node-00", "web-1", "40 %", "&lt;script&gt;bad", "mail-1"):
        assert text in answer.text
    assert "<script>bad" not in answer.text


def test_files_are_kept_by_the_browser_until_there_is_another_build(fleet: Fleet) -> None:
    """Every file that a page or a module names is there, below the build's own address; nothing else is."""
    with client(fleet) as browser:
        named = set(re.findall(r'"(/static/[^"]+)', browser.get("/").text))
        assert {name.rpartition("/")[2] for name in named} == {"page.css", "page.js", "mark.svg"}
        for name in list(named):
            told = browser.get(name).text
            named |= {f"/static/{build()}/{module}" for module in re.findall(r"from '\./(\w+\.js)'", told)}
        assert len(named) == 6
        for name in named:
            answer = browser.get(name)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
        assert browser.get("/static/older/page.js").headers["cache-control"] == "no-store"
        for name in (f"/static/{build()}/nothing.js", f"/static/{build()}/..%2Froutes.py", "/static/page.js"):
            assert browser.get(name).status_code == 404


def test_one_migration_has_its_own_page(fleet: Fleet) -> None:
    """With its phases and events; of one that nobody knows there is a page that says so."""
    with client(fleet) as browser:
        answer = browser.get("/m/run-1")
        assert answer.status_code == 200
        assert "perform on node-00" in answer.text
        assert answer.text.count('data-kind="prepare"') == 1
        for ident in ("nobody", "a%00b", "x" * 200, "%3Cscript%3E"):
            unknown = browser.get(f"/m/{ident}")
            assert unknown.status_code == 404
            assert "unknown-migration" in unknown.text
            assert "<script>" not in unknown.text


def test_who_only_looks_sees_no_buttons(fleet: Fleet, tmp_path: Path) -> None:
    """Whoever may view is offered nothing; whoever may operate is; who has no session is asked to sign in."""
    file = tmp_path / "tokens.toml"
    looks, moves = token(file, "looks", "view"), token(file, "moves", "operate")
    with client(fleet, tokens_file=file) as browser:
        turned = browser.get("/m/run-1", follow_redirects=False)
        assert (turned.status_code, turned.headers["location"]) == (303, "/login?next=/m/run-1")
        assert browser.get("/live").status_code == 401
        assert browser.post("/login", data={"token": "vmr_wrong"}).status_code == 401
        for secret, buttons in ((looks, False), (moves, True)):
            signed = browser.post("/login", data={"token": secret, "next": "/"})
            assert signed.status_code == 200
            assert signed.url.path == "/"
            for word in ('data-do="cancel"', 'data-do="drain"', 'id="migrate"', "<dialog"):
                assert (word in signed.text) is buttons, word
            assert secret not in signed.text
            assert browser.post("/logout", headers=OWN, follow_redirects=False).headers["location"] == "/login"
            assert browser.get("/", follow_redirects=False).status_code == 303


def test_a_session_is_for_no_script_and_no_other_site(fleet: Fleet, tmp_path: Path) -> None:
    """Its cookie says so; a form on another site neither signs anybody in nor out."""
    file = tmp_path / "tokens.toml"
    secret = token(file, "moves", "operate")
    with client(fleet, tokens_file=file) as browser:
        answer = browser.post("/login", data={"token": secret}, follow_redirects=False)
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        for path in ("/logout", "/login"):
            assert browser.post(path, headers={"sec-fetch-site": "cross-site"}).status_code == 403
        assert browser.get("/").status_code == 200


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("/m/x", "/m/x"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\nx", "/"),
        ("", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_signing_in_leads_nowhere_else(target: str, kept: str) -> None:
    """Only to a path of this server."""
    assert _local(target) == kept


def test_what_is_wrong_is_said_above_what_was_there(fleet: Fleet) -> None:
    """No scheduler leads; then Redis is away: the page says so, and shows what it had."""
    fleet.journal.client.delete("vmrelay:lease:scheduler")
    with client(fleet) as browser:
        assert "No scheduler leads" in browser.get("/").text
        away = connect("redis://127.0.0.1:1/0")
        known, fleet.journal.client = fleet.journal.client, away
        try:
            asyncio.run(asyncio.sleep(hub.READ_SECONDS / 2))
            answer = browser.get("/")
        finally:
            fleet.journal.client = known
    assert answer.status_code == 200
    assert "Redis does not answer" in answer.text
    assert "mail-1" in answer.text


# -- one reader for all -----------------------------------------------------------------------------------


class Source:
    """Views that a test makes, and how often they were read."""

    def __init__(self) -> None:
        self.view = View({"page": {"n": 0}})
        self.reads = 0
        self.running = threading.Semaphore()

    def __call__(self) -> View:
        """Read."""
        assert self.running.acquire(blocking=False), "two threads read at once"
        self.reads += 1
        self.running.release()
        if isinstance(self.view, Exception):
            raise self.view
        return self.view


Changes = AsyncGenerator[tuple[str, dict[str, Any]], None]


async def following(changes: Changes, seen: View, until: Any) -> View:
    """What somebody sees who follows the changes until a condition is true of it."""
    async with asyncio.timeout(30):
        async for kind, data in changes:
            if kind == "view":
                seen = View(data["items"], data["lists"])
            elif kind == "change":
                seen = applied(seen, data)
            if until(seen):
                return seen
    raise AssertionError("the changes ended")


def test_many_watch_and_one_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """All see the newest view, whoever is slow in one step; nothing is read when nobody watches."""
    monkeypatch.setattr(hub, "READ_SECONDS", 0.02)
    monkeypatch.setattr(hub, "BEAT_SECONDS", 0.05)
    source = Source()

    async def run() -> None:
        shared = Hub(source)
        slow, *others = [shared.changes() for _ in range(20)]
        first = await anext(slow)
        assert first[0] == "view"
        for number in range(1, 6):
            source.view = View({"page": {"n": number}, f"m/{number}": {"x": number}}, {"moving": (f"m/{number}",)})
            seen = await asyncio.gather(
                *(following(each, View(), lambda view, n=number: view.items["page"]["n"] == n) for each in others[:1])
            )
            assert all(view == source.view for view in seen)
        late = await following(slow, View(first[1]["items"], first[1]["lists"]), lambda view: "m/5" in view.items)
        assert late == source.view
        reads = source.reads
        kind, _ = await anext(slow)
        assert kind == "beat", "a sign of life where nothing changes"
        assert source.reads > reads
        for each in (slow, *others):
            await each.aclose()
        assert shared.idle
        reads = source.reads
        await asyncio.sleep(5 * hub.READ_SECONDS)
        assert source.reads <= reads + 1

    asyncio.run(run())


@pytest.mark.parametrize("error", [redis.ConnectionError("refused"), ValueError("a fault of ours")])
def test_what_cannot_be_read_is_said_and_does_not_end_the_stream(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last view stays, with what is wrong; when it can be read again, that is gone."""
    monkeypatch.setattr(hub, "READ_SECONDS", 0.02)
    source = Source()

    async def run() -> None:
        shared = Hub(source)
        changes = shared.changes()
        seen = await following(changes, View(), lambda view: "page" in view.items)
        before, source.view = source.view, error  # type: ignore[assignment]
        seen = await following(changes, seen, lambda view: "trouble" in view.items["page"])
        assert seen.items["page"]["n"] == 0
        source.view = before
        seen = await following(changes, seen, lambda view: "trouble" not in view.items["page"])
        await changes.aclose()

    asyncio.run(run())
