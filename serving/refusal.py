"""Why a request is not answered; the translators turn each kind into their protocol's status."""

from __future__ import annotations

from enum import StrEnum

from protocol.errors import FedwardError


class Kind(StrEnum):
    """What a client can do about it."""

    INVALID = "invalid"
    UNKNOWN = "unknown"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too large"
    TOO_MANY = "too many"
    UNAVAILABLE = "unavailable"
    DEADLINE = "deadline"


class Refusal(FedwardError):  # noqa: N818 - it is an answer, not a failure
    """A request that is not answered.

    Args:
        kind: What a client can do about it.
        problem: As of every error; never a patient's value.
    """

    def __init__(
        self,
        kind: Kind,
        problem: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem, expected=expected, found=found, remedy=remedy)
        self.kind = kind


def invalid(problem: str, *, expected: str | None = None, found: str | None = None) -> Refusal:
    """The client's request is wrong."""
    return Refusal(Kind.INVALID, problem, expected=expected, found=found)
