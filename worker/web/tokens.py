"""The tokens file: who may do what. It holds digests; a token itself is printed once and kept nowhere."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from worker.errors import Rejected, SettingsError

logger = structlog.get_logger(__name__)

PREFIX = "vmr_"
"""Tokens begin so, and whoever looks for secrets in logs and repositories finds them."""
TOKEN_BYTES = 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
ROLES = ("view", "operate", "admin")
OTHERS = 0o027
"""Nobody but the owner may write the file, nobody but owner and group read it."""


class Role(IntEnum):
    """What somebody may do; each may do what those before may."""

    VIEW = 1
    """See everything."""
    OPERATE = 2
    """Move guests, cancel, cordon and drain."""
    ADMIN = 3
    """Say that a host is dead."""

    @property
    def word(self) -> str:
        """As the tokens file has it."""
        return ROLES[self - 1]


@dataclass(frozen=True, slots=True)
class Token:
    """One entry of the file."""

    name: str
    digest: bytes
    """SHA-256 of the token."""
    role: Role
    speaks_for_others: bool = False
    """What it gives as ``requested_by`` is kept, behind its name."""
    expires: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return self.expires is None or now < self.expires


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    role: Literal["view", "operate", "admin"]
    speaks_for_others: bool = False
    expires: AwareDatetime | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tokens: dict[str, _Entry]


def parse(text: str) -> tuple[Token, ...]:
    """The entries of a tokens file. Raises ``ValueError`` that says what is wrong, without any digest."""
    try:
        entries = _File.model_validate(tomllib.loads(text)).tokens
    except ValidationError as wrong:
        errors = wrong.errors(include_input=False, include_url=False)
        raise ValueError("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors)) from None
    if strange := [name for name in entries if not NAME.fullmatch(name)]:
        raise ValueError(f"'{strange[0][:80]}' is no name: letters, digits, '.', '_' and '-', at most 63")
    found = [
        Token(name, bytes.fromhex(each.sha256), Role(ROLES.index(each.role) + 1), each.speaks_for_others, each.expires)
        for name, each in entries.items()
    ]
    if len({token.digest for token in found}) < len(found):
        raise ValueError("two names have one token; make another with 'vmrelay web-token'")
    return tuple(found)


def digest_of(token: str) -> bytes:
    """What the file keeps of a token: it is random, so no slow hash is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def find(tokens: Iterable[Token], digest: bytes) -> Token | None:
    """The entry with this digest. Looks at all of them, whichever it is: how long it takes tells nothing."""
    found = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def load(path: Path) -> tuple[Token, ...]:
    """The entries of the file. Raises ``SettingsError`` where it is missing, open to others, or malformed."""
    try:
        with path.open("rb") as file:
            mode, raw = os.fstat(file.fileno()).st_mode, file.read()
    except OSError as missing:
        raise SettingsError(
            f"the tokens file {path} cannot be read ({missing.strerror}); 'vmrelay web-token NAME --role operate' "
            "makes one, or leave web.tokens_file out to serve this machine alone"
        ) from None
    if mode & OTHERS:
        raise SettingsError(f"the tokens file {path} can be read or written by others; chmod 600 {path}")
    try:
        return parse(raw.decode())
    except ValueError as broken:
        raise SettingsError(f"the tokens file {path} is malformed: {broken}") from None


class Tokens:
    """The entries in force: those of the file as it is now, or as it was when it was last right."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._look()
        self._tokens = load(path)

    def now(self) -> tuple[Token, ...]:
        """The entries. A file that was made wrong is logged once, and changes nothing."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._tokens = load(self._path)
                logger.info("tokens read anew", number=len(self._tokens))
            except SettingsError as wrong:
                logger.error("the tokens of before stay in force", error=wrong.message)  # noqa: TRY400 - says it all
        return self._tokens

    def _look(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


# -- making one ---------------------------------------------------------------------------------------------


def make(path: Path, name: str, role: str, *, speaks_for_others: bool, expires: datetime | None, replace: bool) -> str:
    """Make a token, write its digest into the file, and return it: the only time that anybody sees it.

    Raises ``Rejected`` (``malformed``, ``token-exists``) and ``SettingsError``.
    """
    if not NAME.fullmatch(name):
        raise Rejected(f"'{name[:80]}' is no name: letters, digits, '.', '_' and '-', at most 63", code="malformed")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as denied:
        raise SettingsError(f"the folder of {path} cannot be used: {denied.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two of these at once write one after the other
        return _added(path, name, role, speaks_for_others, expires, replace)
    finally:
        os.close(folder)


def _added(path: Path, name: str, role: str, speaks_for_others: bool, expires: datetime | None, replace: bool) -> str:
    known = load(path) if path.exists() else ()
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if any(token.name == name for token in known):
        if not replace:
            raise Rejected(
                f"there is a token for '{name}' already; --replace makes another, and the one of before is void",
                code="token-exists",
            )
        text = without(text, name)
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    lines = [f'[tokens."{name}"]', f'sha256 = "{digest_of(token).hex()}"', f'role = "{role}"']
    lines += ["speaks_for_others = true"] * speaks_for_others + (
        [f"expires = {expires.isoformat()}"] if expires else []
    )
    text = "\n\n".join(filter(None, (text.rstrip(), "\n".join(lines)))) + "\n"
    if {each.name for each in parse(text)} != {*(each.name for each in known), name}:
        raise SettingsError(f"{path} is written in a way that this command cannot change; edit it by hand")
    _write(path, text)
    return token


def without(text: str, name: str) -> str:
    """A tokens file without one of its tables. Pure."""
    return re.sub(rf'(?ms)^\[tokens\.(?:"{re.escape(name)}"|{re.escape(name)})\][ \t]*$.*?(?=^\[|\Z)', "", text)


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():  # a group that may read it still may
            draft.chmod(path.stat().st_mode & 0o640)
        draft.replace(path)
    except OSError as denied:
        draft.unlink(missing_ok=True)
        raise SettingsError(f"{path} cannot be written: {denied.strerror}") from None
