"""Every error that a person or a peer meets.

A message says what was expected, what was found and what to do next, and holds nothing private:
no value of a patient, no key, no count of records.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class FedwardError(Exception):
    """Root of every error that Fedward raises on purpose.

    Args:
        problem: What is wrong, in one clause, without a full stop.
        expected: What would have been right.
        found: What was there instead.
        remedy: What the reader can do now.

    >>> str(InputError("unknown key 'round'", expected="a key of a job", remedy="use 'rounds'"))
    "unknown key 'round'; expected a key of a job; use 'rounds'"
    """

    exit_code = 1

    def __init__(
        self,
        problem: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.expected = expected
        self.found = found
        self.remedy = remedy
        parts = [problem]
        if expected is not None:
            parts.append(f"expected {expected}")
        if found is not None:
            parts.append(f"found {found}")
        if remedy is not None:
            parts.append(remedy)
        super().__init__("; ".join(parts))

    def at(self, place: str) -> Self:
        """The same error with the place it concerns (a file, a key's path) in front."""
        again = type(self).__new__(type(self))
        # What a subclass tells besides stays as it is.
        again.__dict__.update(self.__dict__)
        FedwardError.__init__(
            again,
            f"{place}: {self.problem}",
            expected=self.expected,
            found=self.found,
            remedy=self.remedy,
        )
        return again


class InputError(FedwardError):
    """A person's mistake: a bad file, key, value or command. Exit code 2, never a traceback."""

    exit_code = 2


class BudgetError(InputError):
    """A release that the hospital's privacy budget does not cover."""


class BusyError(FedwardError):
    """Another process holds what is needed; trying again later helps."""


class IntegrityError(FedwardError):
    """Stored or received bytes that are not what they must be."""


class Code(StrEnum):
    """Why a node refuses: the fixed list that may leave a hospital, see docs/threat-model.md."""

    VERSION = "version"
    SIGNATURE = "signature"
    ROSTER = "roster"
    EXPIRED = "expired"
    DEADLINE = "deadline"
    REPLAYED = "replayed"
    POLICY = "policy"
    CELLS = "cells"
    BUDGET = "budget"
    SCHEMA = "schema"
    TASK = "task"
    COHORT = "cohort"
    INTEGRITY = "integrity"
    BUSY = "busy"
    WAITING = "waiting"
    SESSION = "session"
    FAILED = "failed"


class RefusalError(FedwardError):
    """A node's refusal to a peer; only `code` crosses the wire, the rest stays in the local log.

    Args:
        code: The public reason.
        problem: The local reason.
    """

    def __init__(
        self,
        code: Code,
        problem: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem, expected=expected, found=found, remedy=remedy)
        self.code = code
