"""Who may do what over HTTP: the tokens file, sessions of browsers, other sites, and how often."""

from __future__ import annotations

import string
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from worker.cli.main import cli
from worker.cli.web import web_token
from worker.errors import Rejected, SettingsError, Unavailable
from worker.settings import WebSettings
from worker.web import access, tokens
from worker.web.access import (
    COOKIE,
    LOCAL,
    Access,
    Who,
    drop_cookie,
    is_local,
    refuse_foreign,
    refuse_stranger,
    set_cookie,
)
from worker.web.bounds import Buckets, caller_of
from worker.web.problems import Denied
from worker.web.serve import listener, url_of
from worker.web.tokens import Role, Tokens, digest_of, find, load, make, parse, without

NAMES = st.from_regex(tokens.NAME, fullmatch=True)


def made(path: Path, name: str, role: str = "operate", **more: object) -> str:
    """A token of the file."""
    wanted = {"speaks_for_others": False, "expires": None, "replace": False} | more
    return make(path, name, role, **wanted)  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a tokens file may be."""
    return tmp_path / "tokens.toml"


def bearer(token: str) -> dict[str, str]:
    """The header of a request."""
    return {"authorization": f"Bearer {token}"}


# -- the file -------------------------------------------------------------------------------------------


def test_a_token_is_in_no_file_and_is_known_all_the_same(file: Path) -> None:
    """The file has its digest, role and name; the owner alone may write it, and others not even read it."""
    token = made(file, "portal", speaks_for_others=True)
    assert token.startswith(tokens.PREFIX)
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    (known,) = load(file)
    assert (known.name, known.role, known.speaks_for_others) == ("portal", Role.OPERATE, True)
    assert find([known], digest_of(token)) == known
    assert find([known], digest_of(token + "x")) is None


@given(st.lists(NAMES, unique_by=str, min_size=1, max_size=6), st.data())
def test_whatever_is_added_and_replaced_the_file_stays_right(names: list[str], data: st.DataObject) -> None:
    """Each name has one token, the one made last; those of others and what people wrote beside them stay."""
    text = "# whose they are\n"
    for name in names:
        text += f'\n[tokens."{name}"]\nsha256 = "{digest_of(name).hex()}"\nrole = "view"\n'
    gone = data.draw(st.sampled_from(names))
    left = without(text, gone)
    assert "# whose they are" in left
    if len(names) > 1:
        assert [token.name for token in parse(left)] == [name for name in names if name != gone]


def test_a_second_token_for_a_name_takes_saying_so(file: Path) -> None:
    """Otherwise whoever uses the first would be locked out by a slip."""
    first = made(file, "portal")
    other = made(file, "other", "view")
    with pytest.raises(Rejected, match="--replace"):
        made(file, "portal")
    second = made(file, "portal", "admin", replace=True)
    known = load(file)
    assert find(known, digest_of(first)) is None
    assert (found := find(known, digest_of(second))) is not None
    assert found.role is Role.ADMIN
    assert find(known, digest_of(other)) is not None


def test_tokens_that_are_made_at_once_are_all_there(file: Path) -> None:
    """Two commands at a time write one after the other."""
    threads = [threading.Thread(target=made, args=(file, f"t{number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token.name for token in load(file)} == {f"t{number}" for number in range(8)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "tokens: Field required"),
        ("[tokens.a]\nrole = 'view'\n", "tokens.a.sha256: Field required"),
        ("[tokens.a]\nsha256 = 'secret'\nrole = 'view'\n", "tokens.a.sha256"),
        (f"[tokens.a]\nsha256 = '{'0' * 64}'\nrole = 'root'\n", "tokens.a.role"),
        (f"[tokens.a]\nsha256 = '{'0' * 64}'\nrole = 'view'\ntoken = 'secret'\n", "tokens.a.token: Extra inputs"),
        (f"[tokens.a]\nsha256 = '{'0' * 64}'\nrole = 'view'\nexpires = 2026-01-01T00:00:00\n", "timezone"),
        (f"[tokens.'a b']\nsha256 = '{'0' * 64}'\nrole = 'view'\n", "no name"),
        ("[tokens.a", "malformed"),
        ("".join(f"[tokens.{n}]\nsha256 = '{'0' * 64}'\nrole = 'view'\n" for n in "ab"), "two names have one token"),
    ],
)
def test_a_wrong_file_is_refused_by_what_is_wrong(file: Path, text: str, says: str) -> None:
    """And nothing that may be a secret is repeated."""
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(SettingsError, match=says) as refused:
        load(file)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    ("mode", "fine"), [(0o600, True), (0o640, True), (0o400, True), (0o644, False), (0o660, False)]
)
def test_others_may_not_read_or_write_it(file: Path, mode: int, fine: bool) -> None:
    """A server refuses to start with a file that others could have read or changed."""
    made(file, "portal")
    file.chmod(mode)
    if fine:
        assert load(file)
    else:
        with pytest.raises(SettingsError, match="chmod 600"):
            Access(WebSettings(tokens_file=file))


def test_a_file_that_changes_is_read_anew_and_a_broken_one_changes_nothing(file: Path) -> None:
    """A token that is taken back is void at once; a slip of the editor locks nobody out, and lets nobody in."""
    first = made(file, "portal")
    known = Tokens(file)
    second = made(file, "other")
    assert find(known.now(), digest_of(second)) is not None
    file.write_text(without(file.read_text(), "portal"))
    assert find(known.now(), digest_of(first)) is None
    file.write_text("[tokens")
    assert find(known.now(), digest_of(second)) is not None
    file.unlink()
    assert find(known.now(), digest_of(second)) is not None
    assert find(known.now(), digest_of(first)) is None


def test_the_command_prints_the_token_once(file: Path) -> None:
    """On standard output alone, so that it can be piped to where it belongs; never taken as an argument."""
    said = CliRunner().invoke(cli, ["web-token", "ci", "--role", "view", "--days", "9", "--file", str(file)])
    assert said.exit_code == 0, said.output
    token = said.stdout.strip()
    (known,) = load(file)
    assert find([known], digest_of(token)) == known
    assert token not in said.stderr
    assert known.expires is not None
    assert known.holds(datetime.now(UTC) + timedelta(days=8))
    assert not known.holds(datetime.now(UTC) + timedelta(days=10))
    assert {parameter.name for parameter in web_token.params if parameter.param_type_name == "argument"} == {"name"}


# -- who asks -------------------------------------------------------------------------------------------


def test_a_token_says_who_asks_and_expires(file: Path) -> None:
    """A wrong or expired one is refused; none at all is nobody."""
    good = made(file, "portal", "operate")
    old = made(file, "old", expires=datetime.now(UTC) - timedelta(seconds=1))
    door = Access(WebSettings(tokens_file=file))
    assert (who := door.who(bearer(good), {})) is not None
    assert (who.name, who.role) == ("portal", Role.OPERATE)
    assert door.who({}, {}) is None
    for wrong in (bearer(old), bearer("guess"), bearer(""), {"authorization": f"Basic {good}"}):
        with pytest.raises(Denied) as refused:
            door.who(wrong, {})
        assert refused.value.status == 401
        assert "WWW-Authenticate" in refused.value.headers


def test_a_session_ends_with_its_token_with_time_and_by_logout(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser's cookie is worth what the token behind it is worth now."""
    first, second = made(file, "a"), made(file, "b", "view")
    door = Access(WebSettings(tokens_file=file))
    with pytest.raises(Denied):
        door.login("guess")
    value, who = door.login(f" {first}\n")
    cookies = {COOKIE: value}
    assert door.who({}, cookies) == who
    assert door.holds(who)
    assert door.who({}, {COOKIE: value + "x"}) is None
    door.logout(cookies)
    assert door.who({}, cookies) is None
    assert not door.holds(who)
    value, who = door.login(first)
    file.write_text(without(file.read_text(), "a"))
    assert door.who({}, {COOKIE: value}) is None
    assert not door.holds(who)
    value, who = door.login(second)
    monkeypatch.setattr(access, "SESSION_SECONDS", -1)
    late, _ = door.login(second)
    assert door.who({}, {COOKIE: value}) == who
    assert door.who({}, {COOKIE: late}) is None


def test_sessions_are_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than there may be ends the oldest."""
    token = made(file, "a")
    door = Access(WebSettings(tokens_file=file))
    monkeypatch.setattr(access, "MOST_SESSIONS", 2)
    values = [door.login(token)[0] for _ in range(3)]
    assert [door.who({}, {COOKIE: value}) is not None for value in values] == [False, True, True]


@pytest.mark.parametrize(
    ("url", "secure"),
    [("http://localhost:8080/login", False), ("http://127.0.0.1/login", False), ("https://localhost/login", True),
     ("http://relay.example/login", True), ("https://relay.example/login", True)],
)  # fmt: skip
def test_a_sessions_cookie_is_for_nobody_else(url: str, secure: bool) -> None:
    """Not for scripts, not for other sites, and in the clear on this machine alone."""
    parts = urlsplit(url)
    scope = {"type": "http", "scheme": parts.scheme, "path": "/login", "query_string": b"", "root_path": ""}
    request = Request(scope | {"headers": [(b"host", parts.netloc.encode())], "server": None})
    answer = Response()
    set_cookie(answer, "value", request)
    words = answer.headers["set-cookie"].lower().split("; ")
    assert {"httponly", "samesite=strict", "path=/", f"{COOKIE}=value"} <= set(words)
    assert ("secure" in words) == secure
    drop_cookie(answer)
    assert "max-age=0" in answer.headers.getlist("set-cookie")[-1].lower()


def test_a_place_that_is_taken_or_none_is_named() -> None:
    """Before anything else is begun; the message says what to choose instead."""
    with listener("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}/"
        with pytest.raises(Unavailable, match="--port") as taken:
            listener("127.0.0.1", port)
        assert taken.value.code == "port-taken"
    with pytest.raises(SettingsError, match="no address"):
        listener("not an address", 0)


def test_without_a_tokens_file_this_machine_alone_is_served() -> None:
    """Whoever is on it may do everything; another address is refused at the start."""
    door = Access(WebSettings())
    assert door.who(bearer("whatever"), {}) == LOCAL
    assert door.holds(LOCAL)
    for address in ("0.0.0.0", "10.0.0.1", "relay.example", "::"):  # noqa: S104
        with pytest.raises(SettingsError, match="web-token"):
            Access(WebSettings(address=address))
    for address in ("127.0.0.1", "127.8.8.8", "localhost", "::1"):
        Access(WebSettings(address=address))


@given(st.text(max_size=600), st.booleans())
def test_nobody_asks_in_the_name_of_another_token(given_name: str, speaks: bool) -> None:
    """What a request says of who asks is kept behind the token's name, and only where it may speak for others."""
    said = Who("portal", Role.OPERATE, speaks_for_others=speaks).requester(given_name)
    assert said == "portal" or (speaks and said.startswith("portal: "))
    assert len(said) <= 500
    assert LOCAL.requester(given_name) == given_name


# -- where a request comes from -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("localhost:8080", True),
        ("127.0.0.1", True),
        ("[::1]:8080", True),
        ("LOCALHOST", True),
        ("", False),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
    ],
)
def test_another_name_for_this_machine_is_refused(host: str, fine: bool) -> None:
    """A page whose name was pointed at 127.0.0.1 gets nothing (DNS rebinding)."""
    if fine:
        refuse_stranger({"host": host})
    else:
        with pytest.raises(Denied):
            refuse_stranger({"host": host})


HERE = {"host": "relay.example"}


@pytest.mark.parametrize(
    ("headers", "cookie", "fine"),
    [
        (HERE, False, True),  # curl
        (HERE, True, False),  # a cookie and nothing that says whose page it was
        (HERE | {"origin": "https://relay.example"}, True, True),
        (HERE | {"origin": "https://evil.example"}, False, False),
        (HERE | {"origin": "https://relay.example:444"}, True, False),
        (HERE | {"origin": "null"}, False, False),
        ({"origin": "null"}, False, False),
        (HERE | {"sec-fetch-site": "same-origin"}, True, True),
        (HERE | {"sec-fetch-site": "none"}, True, True),
        (HERE | {"sec-fetch-site": "same-site"}, True, False),
        (HERE | {"sec-fetch-site": "cross-site", "origin": "https://relay.example"}, False, False),
        (HERE | {"origin": "https://[relay.example"}, False, False),
    ],
)
def test_another_sites_page_changes_nothing(headers: dict[str, str], cookie: bool, fine: bool) -> None:
    """A browser says whose page asks; reading needs no such word, since it gets no answer."""
    refuse_foreign("GET", headers, by_cookie=cookie)
    if fine:
        refuse_foreign("POST", headers, by_cookie=cookie)
    else:
        with pytest.raises(Denied) as refused:
            refuse_foreign("POST", headers, by_cookie=cookie)
        assert refused.value.code == "foreign-origin"


@given(st.text(string.printable, max_size=40))
def test_where_something_comes_from_is_always_an_answer(text: str) -> None:
    """Whatever stands in a header: yes or no."""
    is_local(text)
    with suppress(Denied):
        refuse_stranger({"host": text})
    with suppress(Denied):
        refuse_foreign("POST", {"origin": text}, by_cookie=False)
    assert len(caller_of(text)) <= 64


# -- how often ------------------------------------------------------------------------------------------


@given(st.integers(1, 6000), st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_nobody_gets_more_than_their_share(per_minute: int, pauses: list[float]) -> None:
    """Within any time, what is served is at most a full bucket and what flowed in meanwhile; waiting helps."""
    buckets, now, served, since = Buckets(per_minute), 0.0, 0, 0.0
    burst = max(1, min(per_minute, max(20, per_minute // 10)))
    for pause in pauses:
        now += pause
        wait = buckets.take("a", now)
        served += not wait
        assert served <= burst + (now - since) * per_minute / 60 + 1e-6
        if wait:
            assert Buckets.take(buckets, "a", now + wait) == 0
            buckets, served, since = Buckets(per_minute), 0, now


def test_callers_are_told_apart_and_bounded() -> None:
    """One who asks too much costs the others nothing, and a million addresses cost no memory."""
    buckets = Buckets(60, most=3)
    while not buckets.take("loud", 0.0):
        pass
    assert buckets.take("quiet", 0.0) == 0
    for number in range(10):
        buckets.take(f"other-{number}", 0.0)
    assert len(buckets) == 3


def test_a_network_of_addresses_is_one_caller() -> None:
    """Of IPv6 everybody has billions."""
    assert caller_of("2001:db8::1") == caller_of("2001:db8::ffff:1") != caller_of("2001:db8:0:1::1")
    assert caller_of("::ffff:192.0.2.1") == caller_of("192.0.2.1") != caller_of("192.0.2.2")
    assert caller_of("fe80::1%eth0")
