"""``python -m unittest``: the routes against a relay that is none. No HTTP API, and no test waits."""

import hashlib
import hmac
import json
import tempfile
import time
import unittest
import uuid
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from main import create_app
from vmrelay_client.fake import FakeClient

SECRET = b"shared with vmrelay"


class MainTest(unittest.TestCase):
    """A relay, and an application with an empty table."""

    def setUp(self) -> None:
        self.relay = FakeClient(like="http")
        self.database = Path(self.enterContext(tempfile.TemporaryDirectory())) / "moves.sqlite"
        self.browser = self.enterContext(self.started())

    def started(self) -> TestClient:
        """The application, which syncs when it starts, and not again."""
        return TestClient(create_app(self.relay, self.database, SECRET, sync_seconds=3600))

    def ask(self, guest: str = "web-1", key: str = "") -> dict[str, Any]:
        """Ask for a move."""
        body = {"guest": guest, "destination": "beta", "key": key or str(uuid.uuid4())}
        answer = self.browser.post("/moves", json=body, headers={"X-Forwarded-User": "anna"})
        return {"status": answer.status_code, **answer.json()}

    def row(self, number: int = 1) -> dict[str, Any]:
        """The row as it is kept, without another look at the relay."""
        return next(row for row in self.browser.get("/moves").json() if row["id"] == number)

    def events(self, number: int = 1) -> list[dict[str, Any]]:
        """All that the page is told. The fake moves its clock on while it is followed."""
        lines = self.browser.get(f"/moves/{number}/events").text.splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    def tell(self, type_: str, migration: dict[str, Any] | None, secret: bytes = SECRET, at: float = 0) -> int:
        """Be vmrelay's webhook; the status of the answer."""
        told = {"id": "1", "type": type_, "at": time.time(), "migration": migration}
        body, now = json.dumps(told).encode(), int(at or time.time())
        digest = hmac.new(secret, b"%d." % now + body, hashlib.sha256).hexdigest()
        headers = {"Vmrelay-Signature": f"t={now},v1={digest}"}
        return self.browser.post("/webhook", content=body, headers=headers).status_code

    def test_a_move_is_asked_for_in_the_name_of_the_user(self) -> None:
        """It is there at once, and sent after the answer."""
        asked = self.ask()
        self.assertEqual((asked["status"], asked["state"]), (202, "unsent"))
        self.assertEqual(self.relay.requests[0].arguments["requested_by"], "anna")
        self.assertEqual(self.row()["migration"], self.relay.requests[0].id)
        self.assertIn("<form", self.browser.get("/").text)

    def test_a_double_click_is_one_migration(self) -> None:
        """The same key is one row and one request; with something else it is refused."""
        key = str(uuid.uuid4())
        self.assertEqual(self.ask(key=key)["id"], self.ask(key=key)["id"])
        self.assertEqual(self.ask("web-2", key=key)["status"], 409)
        self.assertEqual(len(self.relay.requests), 1)

    def test_progress_and_outcome_are_handed_on(self) -> None:
        """Phases, percent and the end, which is kept when the relay has forgotten it."""
        self.ask()
        told = self.events()
        self.assertTrue(any("% copied" in each["text"] for each in told), told)
        self.assertEqual([each.get("over", False) for each in told], [False] * (len(told) - 1) + [True])
        self.relay.go_away()
        self.assertEqual(self.events()[-1], {"text": "succeeded", "percent": 100, "over": True})

    def test_a_refusal_says_why(self) -> None:
        """Over HTTP it comes at once."""
        self.relay.refuse("web-9", message="unknown domain web-9")
        self.ask("web-9")
        self.assertEqual((self.row()["state"], self.row()["detail"]), ("rejected", "unknown domain web-9"))
        self.assertTrue(self.events()[-1]["over"])

    def test_a_relay_that_is_away_is_asked_later(self) -> None:
        """The row stays, is looked at, and is sent by the next sync, even of another process: once."""
        self.relay.go_away()
        with self.assertLogs("moves", "WARNING"):
            self.ask()
        self.assertEqual(self.browser.get("/moves/1").json()["text"], "unsent")
        self.relay.come_back()
        for _ in range(2):
            with self.started():
                self.assertEqual(self.browser.get("/moves/1").status_code, 200)
        self.assertTrue(self.events()[-1]["over"])
        self.assertEqual(len(self.relay.requests), 1)

    def test_a_webhook_tells_the_outcome(self) -> None:
        """What is signed is believed; twice does no harm, and neither does what is not ours."""
        self.relay.leave_in_doubt("web-1")
        self.ask()
        ident = self.row()["migration"]
        document = {"id": ident, "state": "in-doubt", "outcome": None, "error": {"code": "lost", "message": "beta?"}}
        self.assertEqual(self.tell("migration.in-doubt", document), 204)
        self.assertEqual((self.row()["state"], self.row()["detail"]), ("in-doubt", "beta?"))
        ended = {"id": ident, "state": "ended", "outcome": "succeeded", "error": None}
        for _ in range(2):
            self.assertEqual(self.tell("migration.succeeded", ended), 204)
            self.assertEqual(self.row()["state"], "succeeded")
        self.assertEqual(self.tell("migration.in-doubt", document), 204)  # overtaken by the end
        self.assertEqual(self.row()["state"], "succeeded")
        self.assertEqual(self.tell("migration.succeeded", ended | {"id": "another"}), 204)
        self.assertEqual(self.tell("webhook.test", None), 204)

    def test_only_vmrelay_tells_outcomes(self) -> None:
        """Another secret, an old message, no signature: 401, and nothing is noted."""
        self.ask()
        ended = {"id": self.row()["migration"], "state": "ended", "outcome": "failed", "error": None}
        before = self.row()
        self.assertEqual(self.tell("migration.failed", ended, secret=b"guessed"), 401)
        self.assertEqual(self.tell("migration.failed", ended, at=time.time() - 3600), 401)
        self.assertEqual(self.browser.post("/webhook", content=b"{}").status_code, 401)
        self.assertEqual(self.row(), before)

    def test_nonsense_is_refused(self) -> None:
        """A key that is none, a move that is not there."""
        self.assertEqual(self.ask(key="1")["status"], 422)
        self.assertEqual(self.browser.get("/moves/7/events").status_code, 404)
        self.assertEqual(self.relay.requests, [])
