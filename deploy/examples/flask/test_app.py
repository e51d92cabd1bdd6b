"""``python -m unittest``: the pages against a relay that is none. No Redis, and no test waits."""

import re
import tempfile
import unittest
import uuid
from pathlib import Path

from app import create_app
from vmrelay_client.fake import FakeClient
from werkzeug.test import TestResponse


class AppTest(unittest.TestCase):
    """A relay, and an application with an empty table."""

    def setUp(self) -> None:
        self.relay = FakeClient()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.app = create_app(self.relay, DATABASE=str(Path(folder) / "moves.sqlite"))
        self.browser = self.app.test_client()

    def ask(self, guest: str = "web-1", key: str = "", **headers: str) -> TestResponse:
        """Send the form."""
        form = {"guest": guest, "destination": "beta", "key": key or str(uuid.uuid4())}
        return self.browser.post("/", data=form, headers=headers, environ_overrides={"REMOTE_USER": "anna"})

    def progress(self, number: int = 1) -> dict:
        """What the page is told."""
        return self.browser.get(f"/moves/{number}/progress").json

    def test_a_move_is_asked_for_in_the_name_of_the_user(self) -> None:
        """The form that is shown can be sent; the request says who asks."""
        key = re.search(r'name="key" value="([^"]+)"', self.browser.get("/").text)[1]
        self.assertEqual(self.ask(key=key).location, "/moves/1")
        self.assertEqual(self.relay.requests[0].arguments["requested_by"], "anna")

    def test_a_double_click_is_one_migration(self) -> None:
        """The same form twice is one row and one request; something else in it is refused."""
        key = str(uuid.uuid4())
        self.assertEqual(self.ask(key=key).location, self.ask(key=key).location)
        self.assertEqual(self.ask("web-2", key=key).status_code, 409)
        self.assertEqual(len(self.relay.requests), 1)

    def test_progress_and_outcome_are_shown(self) -> None:
        """Percent while it runs, and the end, which is kept when the relay has forgotten it."""
        self.ask()
        self.relay.advance(5)
        self.assertIn(self.progress()["percent"], range(1, 100))
        self.relay.advance(60)
        self.assertTrue(self.progress()["over"])
        self.relay.go_away()
        self.assertEqual(self.progress()["state"], "succeeded")
        self.assertIn("succeeded", self.browser.get("/").text)

    def test_a_refusal_says_why(self) -> None:
        """The relay's reason is on the page."""
        self.relay.refuse("web-9", message="unknown domain web-9")
        self.ask("web-9")
        self.relay.advance(60)
        self.assertEqual(self.progress()["state"], "rejected")
        self.assertIn("unknown domain web-9", self.browser.get("/moves/1").text)

    def test_in_doubt_is_no_end(self) -> None:
        """It is looked at until an operator has settled it."""
        self.relay.leave_in_doubt("web-1")
        self.ask()
        self.relay.advance(60)
        self.assertFalse(self.progress()["over"])
        self.relay.settle(self.relay.requests[0].id, "failed")
        self.app.test_cli_runner().invoke(args=["sync"])
        self.relay.go_away()
        self.assertEqual(self.progress()["state"], "failed")

    def test_a_relay_that_is_away_is_asked_later(self) -> None:
        """The row stays, its page works, and `flask sync` sends it: once."""
        self.relay.go_away()
        with self.assertLogs("moves", "WARNING"):
            self.ask()
            self.ask("web-2")
        self.assertEqual(self.progress()["state"], "unsent")
        self.relay.come_back()
        for _ in range(2):
            self.app.test_cli_runner().invoke(args=["sync"])
        self.assertEqual([request.arguments["domain"] for request in self.relay.requests], ["web-1", "web-2"])
        self.relay.go_away()
        self.assertIn("no news", self.progress()["text"])

    def test_forms_of_other_sites_are_refused(self) -> None:
        """By what a browser says of them; what is no browser has no user's cookies to abuse."""
        self.assertEqual(self.ask(**{"Sec-Fetch-Site": "cross-site"}).status_code, 403)
        self.assertEqual(self.ask(Origin="https://elsewhere.example").status_code, 403)
        self.assertEqual(self.ask(Origin="http://localhost").status_code, 303)
        self.assertEqual(self.ask(**{"Sec-Fetch-Site": "same-origin"}).status_code, 303)
        self.assertEqual(len(self.relay.requests), 2)

    def test_nonsense_is_refused(self) -> None:
        """An empty guest, a key that no form had, a move that is not there."""
        self.assertEqual(self.ask(" ").status_code, 422)
        self.assertEqual(self.ask(key="1").status_code, 422)
        self.assertEqual(self.browser.get("/moves/7").status_code, 404)
        self.assertEqual(self.relay.requests, [])
