"""A card's way to another hospital: what all who trained a model say of it alike.

Name, version and time are a hospital's own. So are the settled epsilons, which follow from its own
ledger, and what is computed from the weights alone is computed anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from learning.card import ModelCard, plain
from protocol.canonical import from_canonical, to_canonical
from protocol.config import parse
from protocol.errors import FedwardError, IntegrityError

_OWN = ("name", "version", "created", "importance", "handed_on_by")


def shared_card(card: ModelCard) -> bytes:
    """The part of a card that does not depend on whose store it is from, canonical bytes."""
    privacy = replace(card.privacy, epsilon_settled=None, epsilon_settled_worst=None)
    document = plain(replace(card, privacy=privacy))
    return to_canonical({key: value for key, value in document.items() if key not in _OWN})


def received_card(
    shared: bytes,
    *,
    name: str,
    version: int,
    now: datetime,
    vouchers: tuple[str, ...],
    importance: Mapping[str, float],
) -> ModelCard:
    """The card of a model as its recipient stores it.

    Args:
        shared: What `shared_card` gave those who vouched.
        name: The model's name.
        version: The version here.
        now: When it came.
        vouchers: Who vouched for it.
        importance: See `learning.importance`; computed here.

    Raises:
        IntegrityError: It is no such part of a card.
    """
    own: dict[str, Any] = {
        "name": name,
        "version": version,
        "created": now.isoformat(timespec="seconds"),
        "importance": dict(importance),
        "handed_on_by": list(vouchers),
    }
    try:
        document = from_canonical(shared)
        return parse(ModelCard, {**document, **own}, "card")
    except (FedwardError, TypeError, ValueError):
        raise IntegrityError("what was vouched for is no card of a model") from None
