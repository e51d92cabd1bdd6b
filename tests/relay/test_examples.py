"""The example applications, each a real process in an environment of its own, without this project's wheel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from relay_lab import LARGE, PATIENCE, Relay, until

from worker.embedded import free_port
from worker.leash import leashed

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy" / "examples"
ENVIRONMENTS = ROOT / ".venv-examples"
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
