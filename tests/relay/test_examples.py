"""The example applications, each a real process in an environment of its own, without this project's wheel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from relay_lab import LARGE, PATIENCE, Relay
from relay_lab import until as at_once

from worker.embedded import free_port
from worker.leash import leashed
from worker.settings import WebhookSettings
from worker.web.tokens import make
from worker.webhooks.sender import post

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy" / "examples"
ENVIRONMENTS = ROOT / ".venv-examples"
until = partial(at_once, pause=0.2)
"""Each look asks an application, which costs it more than waiting costs us."""
HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')


def environment(**more: str) -> dict[str, str]:
    """What an application finds: nothing of the tests' own environment, and no warnings that nobody reads."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONWARNINGS": "error::DeprecationWarning", **more}


def python(name: str) -> str:
    """The interpreter of an example's environment, which knows nothing of this project's own packages."""
    found = ENVIRONMENTS / name / "bin" / "python"
    assert found.exists(), "run scripts/bootstrap-examples"
    (packages,) = found.parents[1].glob("lib/python3*/site-packages")
    assert not {"worker", "tasks", "libvirt"} & {place.name for place in packages.iterdir()}
    return str(found)


def own_tests(name: str, *words: str, **more: str) -> None:
    """The tests that an example brings pass where it runs."""
    done = subprocess.run(
        leashed([python(name), *words]),
        cwd=EXAMPLES / name,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^Ran [1-9]\d* tests", done.stderr, re.MULTILINE), done.stderr


class Browser:
    """Pages over HTTP, with cookies; redirects are followed."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._cookies = CookieJar()

    def open(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Where it ended, and what is there. Raises ``HTTPError``."""
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))
        request = urllib.request.Request(self.base + path, body, dict(headers or {}))  # noqa: S310
        with opener.open(request, timeout=PATIENCE) as answer:
            return answer.url.removeprefix(self.base), answer.read().decode()

    def json(self, path: str, body: object = None) -> Any:
        """A JSON answer; a body is sent as JSON."""
        text = None if body is None else json.dumps(body).encode()
        return json.loads(self.open(path, text, {"Content-Type": "application/json"} if text else {})[1])

    def events(self, path: str) -> Iterator[Any]:
        """The data of server-sent events, until the stream ends."""
        with urllib.request.urlopen(self.base + path, timeout=PATIENCE) as stream:  # noqa: S310
            for line in stream:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))

    def submit(self, path: str, times: int = 1, **fields: str) -> set[str]:
        """Fill in the form of a page and send it, several times at once; where that leads to."""
        filled = urlencode(dict(HIDDEN.findall(self.open(path)[1])) | fields).encode()
        with ThreadPoolExecutor(times) as clicks:
            return {at for at, _ in clicks.map(lambda _: self.open(path, filled), range(times))}


@contextmanager
def serving(relay: Relay, name: str, port: int, *words: str, **more: str) -> Iterator[Browser]:
    """An example that runs; it dies with this process."""
    log = relay.directory / f"example-{name}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            leashed([python(name), *words]),
            cwd=EXAMPLES / name,
            env=environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    browser = Browser(f"http://127.0.0.1:{port}")

    def answers() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            return bool(browser.open("/"))
        except urllib.error.HTTPError:
            raise
        except OSError:
            return False

    try:
        until(answers, f"{name} serves")
        yield browser
    finally:
        process.kill()
        process.wait()


@contextmanager
def serving_api(relay: Relay, port: int, tokens: Path) -> Iterator[None]:
    """``vmrelay web`` on this relay, for those who have a token."""
    relay.environment["VMRELAY_WEB__TOKENS_FILE"] = str(tokens)
    relay.spawn("web", "web", "--port", str(port))
    try:
        until(lambda: "serving" in relay.log("web"), "vmrelay web serves")
        yield
    finally:
        del relay.environment["VMRELAY_WEB__TOKENS_FILE"]
        relay.kill("web")


def asked_for(relay: Relay, domain: str) -> str:
    """The id of the one migration of a domain; there must not be two."""
    (ident,) = until(lambda: [each.id for each in relay.journal.records() if each.domain == domain], f"{domain} moves")
    return ident


def django(answer: Any) -> tuple[str, int, bool]:
    """Text, percent, and whether it is over, as Django's example tells them (and celery-progress reads them)."""
    return answer.get("result") or answer["progress"]["description"], answer["progress"]["percent"], answer["complete"]


def flask(answer: Any) -> tuple[str, int, bool]:
    """The same of Flask's example."""
    return answer["text"], answer["percent"], answer["over"]


def moves(relay: Relay, browser: Browser, progress: str, read: Callable[[Any], tuple[str, int, bool]]) -> None:
    """A double click is one migration whose progress and end are seen; a small guest moves; a refusal says why.

    ``progress`` is the path below a move's page that ``read`` understands.
    """

    def ends(page: str, *words: str) -> None:
        text, percent, _ = until(lambda: (told := look(page))[2] and told, f"the end of {page}")
        assert percent == 100
        assert all(word in text for word in words), text

    def look(page: str) -> tuple[str, int, bool]:
        return read(browser.json(f"{page.rstrip('/')}/{progress}"))

    large, small = relay.vm(memory_mib=LARGE), relay.vm()
    (page,) = browser.submit("/", times=2, guest=large, destination="beta")
    until(lambda: 6 <= look(page)[1] < 100, "progress")
    ident = asked_for(relay, large)
    relay.send("vmrelay.v1.cancel", migration=ident)
    ends(page, "cancelled")
    assert asked_for(relay, large) == ident
    (page,) = browser.submit("/", guest=small, destination="beta")
    ends(page, small, "moved to beta")
    assert relay.where(small)["beta"] == "running"
    (page,) = browser.submit("/", guest=small, destination="nowhere")
    ends(page, "unknown host 'nowhere'")
    assert relay.record(asked_for(relay, large)).requested_by


@pytest.mark.timeout(180)
def test_django_moves_guests_over_celery(relay: Relay, tmp_path: Path) -> None:
    """Its tests pass; a user logs in, clicks twice, sees one migration's progress and end, and a refusal's reason."""
    own_tests("django", "manage.py", "test", DJANGO_DEBUG="1")
    port = free_port()
    start = f"""
import os
from django.core.management import call_command
os.environ["DJANGO_SETTINGS_MODULE"] = "example.settings"
import django; django.setup()
call_command("migrate", verbosity=0)
call_command("createsuperuser", interactive=False, username="anna", email="anna@example.org", verbosity=0)
call_command("runserver", "127.0.0.1:{port}", use_reloader=False)
"""
    told = {"DJANGO_DEBUG": "1", "DJANGO_DATABASE": str(tmp_path / "moves.sqlite"), "RELAY_URL": relay.redis.url}
    with serving(relay, "django", port, "-c", start, DJANGO_SUPERUSER_PASSWORD="secret", **told) as browser:
        assert browser.submit("/login/", username="anna", password="secret") == {"/"}
        moves(relay, browser, "progress/", django)
        assert "unknown host" in browser.open("/moves/3/")[1]


@pytest.mark.timeout(180)
def test_flask_moves_guests_over_celery(relay: Relay, tmp_path: Path) -> None:
    """Its tests pass; two clicks make one migration, whose progress and end are seen, and a refusal's reason."""
    own_tests("flask", "-m", "unittest")
    port = free_port()
    told = {"MOVES_DATABASE": str(tmp_path / "moves.sqlite"), "MOVES_RELAY_URL": relay.redis.url}
    with serving(relay, "flask", port, "-m", "flask", "run", "--port", str(port), **told) as browser:
        moves(relay, browser, "progress", flask)
        assert "rejected: " in browser.open("/moves/3")[1]


@pytest.mark.timeout(180)
def test_fastapi_moves_guests_over_http(relay: Relay, tmp_path: Path) -> None:
    """Its tests pass; a row outlives a relay that is away and a kill; events are handed on; a webhook tells the end."""
    own_tests("fastapi", "-m", "unittest")
    secret, token, tokens = tmp_path / "secret", tmp_path / "token", tmp_path / "tokens.toml"
    secret.write_text("a secret of thirty-two characters\n")
    secret.chmod(0o600)
    token.write_text(make(tokens, "shop", "operate", speaks_for_others=True, expires=None, replace=False))
    port, api = free_port(), free_port()
    told = {
        "RELAY_URL": f"http://127.0.0.1:{api}",
        "RELAY_TOKEN_FILE": str(token),
        "WEBHOOK_SECRET_FILE": str(secret),
        "MOVES_DATABASE": str(tmp_path / "moves.sqlite"),
        "MOVES_SYNC_SECONDS": "3600",  # each start syncs once; after that nothing but the webhook tells
    }
    start = ("-m", "uvicorn", "--factory", "main:application", "--port", str(port))

    def wanted(guest: str, destination: str = "beta") -> dict[str, str]:
        return {"key": str(uuid.uuid4()), "guest": guest, "destination": destination}

    def state(browser: Browser, number: int) -> str:
        (row,) = (each for each in browser.json("/moves") if each["id"] == number)
        return str(row["state"])

    large, small = relay.vm(memory_mib=LARGE), relay.vm()
    with serving(relay, "fastapi", port, *start, **told) as browser, ThreadPoolExecutor(2) as clicks:
        form = wanted(large)
        (first,) = {answer["id"] for answer in clicks.map(lambda _: browser.json("/moves", form), range(2))}
        assert "to be sent" in next(browser.events(f"/moves/{first}/events"))["text"]
    with serving_api(relay, api, tokens), serving(relay, "fastapi", port, *start, **told) as browser:
        ident = asked_for(relay, large)
        for shown in browser.events(f"/moves/{first}/events"):
            if "% copied" in shown["text"]:
                relay.send("vmrelay.v1.cancel", migration=ident)
        assert shown["over"]
        assert "cancelled" in shown["text"]
        record = relay.record(asked_for(relay, large))
        assert record is not None
        assert record.requested_by == "shop: somebody"

        second = browser.json("/moves", wanted(small))["id"]
        ident = asked_for(relay, small)
        record = relay.wait(ident)
        assert record.outcome == "succeeded"
        before = until(lambda: (seen := state(browser, second)) != "unsent" and seen, "the answer is noted")
        message = {"type": "migration.succeeded", "id": "1", "at": record.ended, "migration": record.document()}
        for key, answered, then in (("somebody else's secret", 401, before), (secret.read_text(), 204, "succeeded")):
            secret.write_text(key)
            webhook = WebhookSettings(url=f"{browser.base}/webhook", secret_file=secret)
            assert post(webhook, "1", message).status == answered
            assert state(browser, second) == then

        third = browser.json("/moves", wanted(small, "nowhere"))["id"]
        until(lambda: state(browser, third) == "rejected", "refused")
        assert "unknown host 'nowhere'" in browser.json(f"/moves/{third}")["text"]
