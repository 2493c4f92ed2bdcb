"""What a server's configuration refuses, and the commands around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

import fedward
from protocol.config import parse
from protocol.errors import InputError
from serving.config import ServingConfig, split_address
from tests.serving.ward import KEY, configure

GOOD: dict[str, Any] = {
    "store": "models", "signers": [KEY.fingerprint], "models": [{"name": "sepsis"}],
}  # fmt: skip
TLS = {"certificate": "c", "key": "k"}


@pytest.mark.parametrize("address", ["0.0.0.0:80", "10.0.0.1:80", "[::]:80", "example.org:80"])
@pytest.mark.parametrize("place", ["rest", "grpc"])
def test_nothing_binds_elsewhere_without_tls_and_auth(address: str, place: str) -> None:
    changes: list[dict[str, Any]] = [{}, {"tls": TLS}, {"tokens": "t"}]
    for change in changes:
        with pytest.raises(InputError, match="open to other machines"):
            parse(ServingConfig, {**GOOD, place: address, **change}, "")
    changes = [{"tls": TLS, "tokens": "t"}, {"tls": {**TLS, "clients": "ca"}}]
    for change in changes:
        parse(ServingConfig, {**GOOD, place: address, **change}, "")


@pytest.mark.parametrize(
    "change",
    [
        {"models": []},
        {"models": [{"name": "a"}, {"name": "a"}]},
        {"signers": []},
        {"signers": ["x"]},
        {"rest": None, "grpc": None},
        {"rest": "127.0.0.1"},
        {"rest": "127.0.0.1:99999"},
        {"limits": {"rows": 0}},
        {"refresh_s": 0},
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        parse(ServingConfig, {**GOOD, **change}, "")


def test_addresses() -> None:
    assert split_address("localhost:0") == ("localhost", 0)
    assert parse(ServingConfig, {**GOOD, "rest": "[::1]:1"}, "").rest == "[::1]:1"


def run(*arguments: object) -> None:
    words = ["serve", *map(str, arguments)]
    typer.main.get_command(fedward.app)(args=words, standalone_mode=False)


def test_tokens_are_made_listed_and_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, tokens="tokens.json")
    run("token", "create", config, "ward-3", "--scope", "predict", "--model", "sepsis")
    assert capsys.readouterr().out.startswith("fedward_")
    run("token", "list", config)
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["name"], told["scopes"], told["models"]) == ("ward-3", ["predict"], ["sepsis"])
    assert "sha256" not in told
    run("token", "revoke", config, "ward-3")
    run("token", "create", config, "ward-3", "--scope", "read")
    with pytest.raises(InputError, match="--scope"):
        run("token", "create", config, "ward-4", "--scope", "write")
    with pytest.raises(InputError, match="names no file of tokens"):
        run("token", "list", configure(tmp_path))


def test_serve_takes_a_configuration_without_a_verb(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.yaml"):
        run(tmp_path / "no.yaml")
