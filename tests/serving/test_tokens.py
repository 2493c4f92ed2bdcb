"""Tokens: who gets in, until when, and what the disk holds."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from protocol.errors import InputError, IntegrityError
from serving.refusal import Kind, Refusal
from serving.tokens import Gate, Scope, Tokens, create_token, load_tokens, revoke_token

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def make(path: Path, name: str, *scopes: Scope, models: tuple[str, ...] = ()) -> str:
    return create_token(path, name, scopes or ("predict",), models, NOW + timedelta(days=1))


def refused(gate: Gate, secret: str, scope: Scope = "predict", model: str = "sepsis") -> Kind:
    with pytest.raises(Refusal) as caught:
        gate.admit(secret, scope, model, "peer")
    return caught.value.kind


def test_the_disk_holds_no_token_and_others_cannot_read_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = make(path, "ward-3")
    assert secret.removeprefix("fedward_") not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(InputError, match="others may read"):
        load_tokens(path)


def test_scope_model_expiry_and_revocation_decide(tmp_path: Path) -> None:
    path, now = tmp_path / "tokens.json", [NOW]
    gate = Gate(path, lambda: now[0])
    assert refused(gate, "Bearer x") is Kind.UNAUTHENTICATED
    secret = f"Bearer {make(path, 'ward-3', models=('sepsis',))}"
    assert gate.admit(secret, "predict", "sepsis", "peer") == "ward-3"
    assert refused(gate, secret, "read") is Kind.FORBIDDEN
    assert refused(gate, secret, model="asthma") is Kind.FORBIDDEN
    assert refused(gate, secret.replace("Bearer", "Basic")) is Kind.UNAUTHENTICATED
    assert refused(gate, "") is Kind.UNAUTHENTICATED
    now[0] = NOW + timedelta(days=1)
    assert refused(gate, secret) is Kind.UNAUTHENTICATED
    now[0] = NOW
    revoke_token(path, "ward-3")
    assert refused(gate, secret) is Kind.UNAUTHENTICATED


def test_a_file_never_grows_beyond_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.json"
    make(path, "ward-0")
    (token,) = load_tokens(path)
    several = tuple(replace(token, name=f"ward-{place}") for place in range(1000))
    path.write_text(json.dumps(asdict(Tokens(tokens=several))))
    make(path, "one-more")
    assert len(load_tokens(path)) == 1001
    monkeypatch.setattr("serving.tokens._MOST_BYTES", path.stat().st_size)
    with pytest.raises(InputError, match="no room for more"):
        make(path, "too-many")
    assert len(load_tokens(path)) == 1001


def test_two_who_change_the_file_lose_nothing(tmp_path: Path) -> None:
    path, names = tmp_path / "tokens.json", [f"ward-{place}" for place in range(12)]
    make(path, "gone")
    with ThreadPoolExecutor(8) as threads:
        revoked = threads.submit(revoke_token, path, "gone")
        made = [threads.submit(make, path, name) for name in names]
    revoked.result()
    assert len({one.result() for one in made}) == len(names)
    assert sorted(token.name for token in load_tokens(path)) == sorted(names)
    with pytest.raises(InputError, match="cannot be written"):
        make(tmp_path / "nowhere" / "tokens.json", "ward")


def test_without_a_file_whoever_reaches_the_server_may_ask() -> None:
    assert Gate(None, lambda: NOW).admit("", "predict", "sepsis", "peer") == "peer"


def test_names_are_unique_and_known(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    make(path, "ward-3")
    with pytest.raises(InputError, match="exists"):
        make(path, "ward-3")
    with pytest.raises(InputError, match="no token 'ward-4'; expected ward-3"):
        revoke_token(path, "ward-4")
    with pytest.raises(InputError, match="name of a token"):
        make(path, "a b")
    text = path.read_text()
    for wrong in ("2027-01-01T00:00:00", "soon"):
        path.write_text(text.replace("2026-11-21T08:00:00+00:00", wrong))
        with pytest.raises(InputError, match=r"tokens\.tokens.*expires of a token"):
            load_tokens(path)
    path.write_text("x")
    with pytest.raises(IntegrityError, match="no file of tokens"):
        load_tokens(path)
