"""``manage.py test``: the pages against a relay that is none. No Redis, and no test waits."""

import uuid
from unittest import mock

from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import transaction
from django.http import HttpResponse
from django.test import TestCase
from vmrelay_client.fake import FakeClient

from . import relay, views
from .models import Move


class MovesTest(TestCase):
    """Anna of the team web, who may move its guests, and a relay."""

    def setUp(self) -> None:
        self.relay = FakeClient()
        self.enterContext(mock.patch.object(relay, "client", return_value=self.relay))
        self.anna = User.objects.create_user("anna")
        self.anna.user_permissions.add(Permission.objects.get(codename="add_move"))
        self.anna.groups.add(Group.objects.create(name="web"))
        self.client.force_login(self.anna)

    def ask(self, guest: str = "web-1", key: str = "", **more: str) -> HttpResponse:
        """Send the form. A test's own transaction is never committed, so what follows a commit is run by hand."""
        form = {"guest": guest, "destination": "beta", "key": key or str(uuid.uuid4()), **more}
        with self.captureOnCommitCallbacks(execute=True):
            return self.client.post("/", form)

    def progress(self, move: Move) -> dict:
        """What the page is told."""
        return self.client.get(f"/moves/{move.pk}/progress/").json()

    def test_a_move_is_asked_for_in_the_name_of_the_user(self) -> None:
        """The row and the request say the same, and the answer leads to the row's page."""
        answer = self.ask(reason="beta has room")
        move = Move.objects.get()
        self.assertRedirects(answer, f"/moves/{move.pk}/")
        self.assertEqual(self.relay.requests[0].id, move.migration)
        expected = {"domain": "web-1", "destination": "beta", "requested_by": "anna", "reason": "beta has room"}
        self.assertLessEqual(expected.items(), self.relay.requests[0].arguments.items())

    def test_a_double_click_is_one_migration(self) -> None:
        """The same form twice is one row, and one request."""
        key = str(uuid.uuid4())
        self.assertEqual(self.ask(key=key).url, self.ask(key=key).url)
        self.assertEqual(len(self.relay.requests), 1)

    def test_a_key_of_somebody_else_is_refused(self) -> None:
        """Nobody gets at a row by its key."""
        key = str(uuid.uuid4())
        self.ask(key=key)
        other = User.objects.create_superuser("eve")
        self.client.force_login(other)
        self.assertEqual(self.ask(key=key).status_code, 403)

    def test_nothing_is_sent_that_is_rolled_back(self) -> None:
        """Whatever else a request does in its transaction: if that fails, nothing moves."""
        with self.assertRaises(ZeroDivisionError), self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            views.ask(self.anna, uuid.uuid4(), guest="web-1", destination="beta")
            raise ZeroDivisionError
        self.assertEqual((self.relay.requests, Move.objects.count()), ([], 0))

    def test_progress_and_outcome_are_shown(self) -> None:
        """Percent while it runs, and the end, which is kept when the relay has forgotten it."""
        self.ask()
        move = Move.objects.get()
        self.assertTrue(self.progress(move)["progress"]["pending"])
        self.relay.advance(5)
        shown = self.progress(move)
        self.assertFalse(shown["complete"])
        self.assertIn(shown["progress"]["percent"], range(1, 100))
        self.relay.advance(60)
        self.assertTrue(self.progress(move)["success"])
        self.relay.go_away()
        self.assertEqual(self.progress(move)["progress"]["percent"], 100)
        self.assertContains(self.client.get("/"), "moved")

    def test_a_refusal_says_why(self) -> None:
        """The relay's reason is on the page."""
        self.relay.refuse("web-9", message="unknown domain 'web-9'")
        self.ask("web-9")
        self.relay.advance(60)
        shown = self.progress(Move.objects.get())
        self.assertEqual((shown["complete"], shown["success"]), (True, False))
        self.assertContains(self.client.get(f"/moves/{Move.objects.get().pk}/"), "unknown domain &#x27;web-9&#x27;")

    def test_in_doubt_is_no_end(self) -> None:
        """It is looked at until an operator has settled it."""
        self.relay.leave_in_doubt("web-1")
        self.ask()
        self.relay.advance(60)
        move = Move.objects.get()
        self.assertFalse(self.progress(move)["complete"])
        self.relay.settle(move.migration, "succeeded")
        call_command("sync_moves")
        move.refresh_from_db()
        self.assertEqual(move.state, Move.State.SUCCEEDED)

    def test_a_relay_that_is_away_is_asked_later(self) -> None:
        """The row stays, its page works, and sync_moves sends it: once."""
        self.relay.go_away()
        with self.assertLogs("moves.relay", "WARNING"):
            self.ask()
        move = Move.objects.get()
        self.assertEqual(self.progress(move)["progress"]["description"], "to be sent")
        self.relay.come_back()
        call_command("sync_moves")
        call_command("sync_moves")
        self.assertEqual([request.arguments["domain"] for request in self.relay.requests], ["web-1"])
        self.relay.go_away()
        self.assertIn("no news", self.progress(move)["progress"]["description"])

    def test_an_old_look_does_not_cover_the_end(self) -> None:
        """Two processes look at once, and the slower one saw less."""
        self.ask()
        late = Move.objects.get()
        relay.keep(Move.objects.get(), Move.State.SUCCEEDED, "")
        relay.keep(late, Move.State.RUNNING, "")
        self.assertEqual(Move.objects.get().state, Move.State.SUCCEEDED)
        self.assertEqual(late.state, Move.State.SUCCEEDED)

    def test_only_who_may_asks(self) -> None:
        """Another team's guest, somebody without the permission, and nobody: a reason, and no row."""
        self.assertContains(self.ask("mail-1"), "belongs to the team", status_code=422)
        self.client.force_login(User.objects.create_user("bob"))
        self.assertContains(self.ask(), "you may not move guests", status_code=422)
        self.client.logout()
        self.assertIn("/login/", self.ask().url)
        self.assertEqual(Move.objects.count(), 0)
