"""Which hospitals hold the same model, kept beside it: their signatures, and how to verify them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.hospital import Hospital
from client.session import Session
from learning.artefact import load
from privacy.confirmation import Confirmations, gather
from protocol.canonical import from_canonical
from protocol.config import parse
from protocol.errors import FedwardError, IntegrityError
from protocol.keyfile import replace_file
from protocol.messages import Stop

CONFIRMATIONS = "confirmations.json"


def keep_confirmations(hospital: Hospital, session: Session, body: Stop) -> None:
    """Write what the other members signed beside the model that the job made, once.

    A node that restarted has lost the epoch's keys and keeps none. Nothing here is a reason not to
    close the job: the members' models were compared before, so a failure is noted and no more.

    Args:
        hospital: The opened hospital.
        session: The job's session, whose keys are about to be forgotten.
        body: What the coordinator relayed.
    """
    keys, cohort = session.keys, session.cohort
    if not session.model or keys is None or cohort is None or body.confirmations is None:
        return
    try:
        found = gather(
            session.state.weights,
            cohort,
            attempt=body.attempt,
            data_key=keys.data,
            signatures=_signatures(body.confirmations),
        )
        place = hospital.models / session.job.name / session.model
        replace_file(place / CONFIRMATIONS, _to_json(found))
    except (FedwardError, OSError) as error:
        hospital.journal.append(
            "confirmations", {"job": session.job.digest, "problem": type(error).__name__}
        )


def confirmed_by(place: Path) -> Mapping[str, str] | None:
    """Fingerprints of the hospitals that signed for a model, by name; None where none are kept.

    Args:
        place: The model's folder; weights and card are verified on the way.

    Raises:
        InputError: There is no such model.
        IntegrityError: A signature does not hold, or is for other weights or another job.
    """
    try:
        data = (place / CONFIRMATIONS).read_bytes()
    except FileNotFoundError:
        return None
    model = load(place)
    try:
        found = _from_json(data)
    except (FedwardError, ValueError) as error:
        raise IntegrityError(f"model {model.card.label}: {CONFIRMATIONS} was changed") from error
    return found.verify(model.weights_P, model.card.digests.job)


def _signatures(data: bytes) -> Mapping[str, bytes]:
    found = from_canonical(data)
    if not isinstance(found, dict) or not all(isinstance(one, bytes) for one in found.values()):
        raise IntegrityError("confirmations", expected="signatures by name")
    return found


@dataclass(frozen=True, kw_only=True)
class _Plain:
    attempt: int
    cohort: str
    key: str
    signatures: Mapping[str, str]


def _to_json(found: Confirmations) -> bytes:
    """Indented JSON, bytes as hexadecimal digits."""
    plain: dict[str, Any] = {
        "attempt": found.attempt,
        "cohort": found.cohort.hex(),
        "key": found.key.hex(),
        "signatures": {name: one.hex() for name, one in sorted(found.signatures.items())},
    }
    return (json.dumps(plain, indent=2) + "\n").encode()


def _from_json(data: bytes) -> Confirmations:
    plain = parse(_Plain, json.loads(data), "confirmations")
    return Confirmations(
        attempt=plain.attempt,
        cohort=bytes.fromhex(plain.cohort),
        key=bytes.fromhex(plain.key),
        signatures={name: bytes.fromhex(one) for name, one in plain.signatures.items()},
    )
