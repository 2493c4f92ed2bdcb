"""Bearer tokens: who may ask for what, until when; only their digests are on the disk."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from protocol.config import parse
from protocol.errors import InputError, IntegrityError
from protocol.keyfile import load_secret, replace_file
from serving.refusal import Kind, Refusal

Scope = Literal["predict", "read", "feedback", "monitor"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_PREFIX = "fedward_"
_MOST_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Token:
    """What is known of a token.

    Args:
        name: Who has it.
        sha256: Digest of the token; it has 256 random bits, so nobody finds it by trying.
        scopes: `predict`; `read` for metadata of models; `feedback` to say what came true;
            `monitor` for metrics and the page.
        models: Models that it is good for; empty for all.
        expires: RFC 3339 time, with its offset from UTC.
    """

    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    models: tuple[str, ...] = ()
    expires: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError("name of a token", expected="letters, digits, '.', '_' and '-'")
        if not self.scopes:
            raise InputError("scopes of a token", expected="one or more of " + ", ".join(SCOPES))
        with suppress(ValueError):
            if datetime.fromisoformat(self.expires).tzinfo is not None:
                return
        raise InputError("expires of a token", expected="an RFC 3339 time with its offset")

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return datetime.fromisoformat(self.expires) <= now


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """All tokens of a server."""

    tokens: tuple[Token, ...] = ()


def load_tokens(path: Path) -> tuple[Token, ...]:
    """Read the tokens' file; none where there is no file.

    Raises:
        InputError: It cannot be read, or others may read it.
        IntegrityError: It is no such file.
    """
    if not path.exists():
        return ()
    try:
        return parse(Tokens, json.loads(load_secret(path, _MOST_BYTES)), "tokens").tokens
    except ValueError:
        raise IntegrityError(f"{path}: no file of tokens") from None


def create_token(
    path: Path, name: str, scopes: tuple[Scope, ...], models: tuple[str, ...], expires: datetime
) -> str:
    """Add a token.

    Returns:
        The token, which is stored nowhere.

    Raises:
        InputError: The name is taken or none, or there are too many tokens.
    """
    secret = _PREFIX + secrets.token_urlsafe(32)
    token = Token(
        name=name,
        sha256=_digest(secret),
        scopes=scopes,
        models=models,
        expires=expires.isoformat(timespec="seconds"),
    )
    with _held(path):
        present = load_tokens(path)
        if any(one.name == name for one in present):
            raise InputError(f"a token {name!r} exists", remedy="revoke it first")
        _save(path, (*present, token))
    return secret


def revoke_token(path: Path, name: str) -> None:
    """Remove a token; a server that runs refuses it from its next request.

    Raises:
        InputError: There is no such token.
    """
    with _held(path):
        present = load_tokens(path)
        kept = tuple(one for one in present if one.name != name)
        if len(kept) == len(present):
            raise InputError(f"no token {name!r}", expected=", ".join(one.name for one in present))
        _save(path, kept)


class Gate:
    """Decides whether a request may go on; reads the file again whenever it changed.

    Args:
        path: The tokens' file; None where everybody who reaches the server may ask.
        clock: Present time.
    """

    def __init__(self, path: Path | None, clock: Callable[[], datetime]) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, ...] = ()
        self._tokens: dict[str, Token] = {}

    def admit(self, authorization: str, scope: Scope, model: str, peer: str) -> str:
        """Who asks, for counting.

        Args:
            authorization: Value of the header of that name, empty where there is none.
            scope: What is asked for.
            model: Of which model; empty for the server itself.
            peer: The other end's address, which is who asks where there are no tokens.

        Raises:
            Refusal: No token, one that is unknown or expired, or one that is not good for this.
        """
        if self._path is None:
            return peer
        kind, _, secret = authorization.partition(" ")
        token = self._current().get(_digest(secret)) if kind.lower() == "bearer" else None
        if token is None or token.expired(self._clock()):
            raise Refusal(
                Kind.UNAUTHENTICATED,
                "no valid token",
                expected="the header 'authorization: Bearer TOKEN', not expired",
            )
        if scope not in token.scopes or (model and token.models and model not in token.models):
            raise Refusal(Kind.FORBIDDEN, "the token is not good for this", found=token.name)
        return token.name

    def _current(self) -> dict[str, Token]:
        path = self._path
        if path is None:
            return {}
        seen: tuple[int, ...] = ()
        with suppress(OSError):
            found = path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if seen != self._seen or not seen:
            self._tokens = {token.sha256: token for token in load_tokens(path)}
            self._seen = seen
        return self._tokens


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep others from changing the file meanwhile, who could bring a revoked token back."""
    try:
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(f"{path}: cannot be written", found=error.strerror) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _save(path: Path, tokens: tuple[Token, ...]) -> None:
    text = json.dumps(asdict(Tokens(tokens=tokens)), indent=2)
    if len(text) >= _MOST_BYTES:
        raise InputError(f"{path}: has no room for more tokens", remedy="revoke some first")
    replace_file(path, f"{text}\n".encode())
