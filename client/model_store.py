"""The models of a hospital as its commands name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from client.hospital import HospitalConfig
from learning.artefact import models, verify, versions
from learning.card import ModelCard
from learning.promotion import load_record
from protocol.config import read
from protocol.errors import InputError
from protocol.signing import SigningKey
from protocol.trust import Trust

Reference = Annotated[
    str,
    typer.Argument(
        metavar="NAME[/VERSION]",
        help="The model; without a version the one in use, else the newest.",
    ),
]
REFERENCE = re.compile(r"([a-z0-9][a-z0-9._-]{0,63})(?:/([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, kw_only=True)
class ModelStore:
    """The store of a hospital, who signs there, and whom its administrator knows.

    Args:
        folder: Where the models are.
        signer: Fingerprint of this hospital's node.
        known: Fingerprints of this hospital and of those that were confirmed here, by name.
    """

    folder: Path
    signer: str
    known: Mapping[str, str]

    @classmethod
    def of(cls, config: Path) -> ModelStore:
        """The store of a configuration's hospital.

        Raises:
            InputError: The configuration, the hospital's key or its trust file cannot be read.
        """
        hospital = read(HospitalConfig, config)
        key = SigningKey.load(config.parent / hospital.keys / "signing.key")
        trust = config.parent / hospital.trust
        confirmed = Trust.load(trust).confirmed if trust.exists() else {}
        return cls(
            folder=config.parent / hospital.models,
            signer=key.fingerprint,
            known={**confirmed, hospital.name: key.fingerprint},
        )

    def place(self, reference: str) -> Path:
        """The folder of a model that was named on the command line.

        Raises:
            InputError: It is no name of a model, or no such model is in the store.
        """
        match = REFERENCE.fullmatch(reference)
        if match is None:
            raise InputError("a model", expected="NAME or NAME/VERSION, such as 'sepsis/2'")
        name, version = match.groups()
        there = versions(self.folder, name)
        if not there:
            known = ", ".join(dict.fromkeys(name for name, _ in models(self.folder)))
            raise InputError(f"no model {name!r} is in the store", expected=known or "any model")
        chosen = version or load_record(self.folder, name).promoted or there[-1]
        return self.folder / name / str(chosen)

    def verify(self, place: Path) -> ModelCard:
        """The card of a model that this hospital's node has signed."""
        return verify(place, {self.signer})
