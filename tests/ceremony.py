"""A consortium that is founded by the commands that people type, in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from click.testing import CliRunner, Result

import fedward
from protocol.card import Card

ADDRESS = "fedward.example.org:8443"


def invoke(*args: object, answers: str = "") -> Result:
    """Run the real command line; `answers` is what a person types."""
    command = typer.main.get_command(fedward.app)
    return CliRunner().invoke(command, [str(arg) for arg in args], input=answers)


def done(*args: object, answers: str = "") -> str:
    """What a command that must succeed prints on stdout."""
    result = invoke(*args, answers=answers)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def said(*args: object, answers: str = "") -> dict[str, Any]:
    """The JSON of a command."""
    return dict(json.loads(done(*args, "--json", answers=answers)))


@dataclass(frozen=True)
class Founded:
    """A coordinator's folder and those of its hospitals."""

    server: Path
    hospitals: dict[str, Path]

    @property
    def roster(self) -> Path:
        return self.server / "roster.json"

    def config(self, name: str) -> Path:
        return self.hospitals[name] / "hospital.yaml"

    def enrol(self, *cards: Path) -> dict[str, Any]:
        """Enrol cards whose fingerprints were compared."""
        digits = [_fingerprint(card) for card in cards]
        agreed = [word for digit in digits for word in ("--yes", digit)]
        return said("server", "enrol", *cards, "--server", self.server / "server.yaml", *agreed)

    def trust(self, name: str, *args: object) -> dict[str, Any]:
        """Trust the present roster at one hospital."""
        shown = said("server", "roster", "show", "--server", self.server / "server.yaml")
        config = self.config(name)
        agreed = ("--yes", shown["digest"])
        return said("client", "trust", self.roster, "--config", config, *agreed, *args)

    def card(self, name: str) -> Path:
        return self.hospitals[name] / f"{name}.card.json"


def _fingerprint(card: Path) -> str:
    return Card.from_bytes(card.read_bytes()).fingerprint


def found(folder: Path, *names: str, address: str = ADDRESS) -> Founded:
    """Found a consortium: server init, client init, enrol, trust."""
    server = folder / "server"
    done("server", "init", server, "--address", address)
    hospitals = {name: folder / name for name in names}
    founded = Founded(server, hospitals)
    for name, home in hospitals.items():
        done("client", "init", home, "--name", name)
    if names:
        founded.enrol(*(founded.card(name) for name in names))
    for name in names:
        founded.trust(name)
    return founded
