"""The node's own record of privacy loss: what is reserved, released, settled and refused.

It stores mechanisms and never an epsilon; every epsilon is computed from them. A job's worst case
is reserved before any record is read. A crash leaves the reservation, which counts as spent.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from privacy import ledger_audit
from privacy import ledger_rules as rules
from privacy.budget import decide
from privacy.charges import Caps, Charge, Purpose, is_digest
from privacy.ledger_chain import Chain, check_unblocked
from privacy.ledger_heads import open_head
from privacy.ledger_reader import Reader
from privacy.ledger_state import to_request
from protocol.errors import InputError
from protocol.signing import SigningKey

SPLIT_KEY_BYTES = 32


def _now() -> datetime:
    return datetime.now(UTC)


class Ledger(Reader):
    """An open ledger, of one process and one thread; others may have the same file open.

    Guarantee: whatever was recorded as released is covered by charges that count, at any moment
    and after any crash, so no epsilon computed here is less than that of the releases.
    """

    @classmethod
    def open(
        cls,
        path: Path,
        signing_key: SigningKey | None,
        *,
        clock: Callable[[], datetime] = _now,
        busy_timeout_s: float = 5.0,
    ) -> Self:
        """Open a ledger, or begin one where there is none.

        Args:
            path: The file; it and its companions `-wal` and `-shm` have mode 0600.
            signing_key: The node's key, which signs each row; None opens it for reading.
            clock: The time of rows whose caller names none.
            busy_timeout_s: How long to wait for another process that is writing.

        Raises:
            InputError: No such ledger, readable by others, or another node's.
            IntegrityError: The file is damaged, or a row does not hold.
            BusyError: Another process is writing for too long.
        """
        return cls(Chain.open(path, signing_key, clock, busy_timeout_s))

    def reserve(self, charges: Sequence[Charge], caps: Caps, now: datetime) -> tuple[str, ...]:
        """Reserve the worst case of a whole job, or nothing.

        The same job with the same charges gets the same reservation again.

        Args:
            charges: All of the job's charges, spare attempts included, one for each purpose.
            caps: The hospital's caps on each population and partition.
            now: The time, with a zone.

        Returns:
            One id for each charge, "row/purpose".

        Raises:
            BudgetError: A cap would be passed; names the caps, the spent and the asked-for
                epsilons. All that is written is that the job was refused. Or the job is reserved
                with other numbers.
            RefusalError: The job is over, or the ledger is blocked.
            IntegrityError: The ledger does not hold.
        """
        with self._chain.writing() as state:
            account = rules.check_reserve(state.accounts, charges)
            if account is not None:
                return _ids(account.row, charges)
            decision = decide(rows=state.counted(), charges=charges, caps=caps, clock=now)
            kind = "reserve" if decision.granted else "refused"
            number = self._chain.append(kind, to_request(charges, caps), now)
        decision.require()
        return _ids(number, charges)

    def settle(
        self,
        job: str,
        now: datetime,
        used: Mapping[Purpose, int] | Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """Give back what a job did not use, and end it here; the same settlement may come again.

        Args:
            job: The job's digest.
            now: The time, with a zone.
            used: Steps that count, for each purpose, at least as many as were released; left out,
                exactly as many.

        Returns:
            Steps that count, by purpose.

        Raises:
            BudgetError: Nothing is reserved for the job.
            InputError: Other steps than between released and reserved, or settled differently.
        """
        with self._chain.writing() as state:
            account = rules.find(state.accounts, job)
            told = account.least_used if used is None else used
            steps = {str(purpose): count for purpose, count in told.items()}
            if rules.check_settle(state.accounts, job, steps):
                self._chain.append("settle", {"job": job, "used": steps}, now)
        return steps

    def void(self, job: str, now: datetime | None = None) -> None:
        """Give back everything, where nothing was released.

        Raises:
            BudgetError: Something was released, or nothing was reserved.
        """
        with self._chain.writing() as state:
            if rules.check_void(state.accounts, job):
                self._chain.append("void", {"job": job}, now)

    def record_release(
        self, *, job: str, epoch: int, attempt: int, purpose: str, digest: str
    ) -> None:
        """Record a release before its bytes leave; only after this returns may they be sent.

        Args:
            job: The job's digest.
            epoch: Never decreases.
            attempt: From 1; grows with each release of a purpose, also across epochs.
            purpose: A purpose that the job reserved.
            digest: SHA-256 of the released bytes.

        Raises:
            BudgetError: Nothing is reserved for it.
            IntegrityError: This tuple was released before.
            RefusalError: The job is over, epoch or attempt do not go forward, or every reserved
                attempt is used.
        """
        if not is_digest(digest):
            raise InputError("digest of a release", expected="64 hexadecimal digits")
        fields = {"job": job, "epoch": epoch, "attempt": attempt, "purpose": purpose}
        with self._chain.writing() as state:
            rules.check_release(state.accounts, job, epoch, attempt, purpose)
            self._chain.append("release", {**fields, "digest": digest})

    def mark_finished(self, job: str) -> None:
        """End a job for good: it releases nothing any more and cannot be reserved again.

        Raises:
            BudgetError: Nothing was ever reserved for it.
        """
        with self._chain.writing() as state:
            if rules.check_finish(state.accounts, job):
                self._chain.append("finish", {"job": job})

    def statement(self) -> bytes:
        """This node's signed word on how far its ledger goes; the coordinator shows it again.

        Raises:
            InputError: The ledger is open for reading only.
        """
        return self._chain.statement()

    def check_echo(self, echo: bytes) -> bool:
        """Hold what this node last told the coordinator against the chain.

        A row that is missing means that this file is an old copy: what was spent since then is not
        in it. The ledger then blocks for good, also after a restart; the right file does not know
        of the block. An echo that this node did not sign is no evidence and changes nothing, so no
        coordinator can block a ledger at will.

        Args:
            echo: A `statement`, as the coordinator kept it.

        Returns:
            Whether the echo was this node's own.

        Raises:
            RefusalError: A row is missing, or was missing before; nothing can be released.
        """
        with self._chain.writing(although_blocked=True) as state:
            told = open_head(echo, state.keys)
            # What was told last is most often what was written last.
            missing = told is not None and not told.speaks_of(reversed(state.heads))
            if told is not None and missing and state.blocked is None:
                self._chain.append("block", {"missing": told.mark.hex()})
        check_unblocked(self._chain.current())
        return told is not None

    def split_key(self, population: str) -> bytes:
        """The secret by which a population's patients are split; made once, it never changes.

        Raises:
            IntegrityError: The key was changed.
            RefusalError: The ledger is blocked.
        """
        with self._chain.writing() as state:
            commitment = state.splits.get(population)
            if commitment is None:
                key = secrets.token_bytes(SPLIT_KEY_BYTES)
                fields = {"population": population, "commitment": ledger_audit.commit(key)}
                self._chain.store.add_split_key(population, key)
                self._chain.append("split", fields)
                return key
            return ledger_audit.checked_split_key(
                self._chain.store.split_keys(), population, commitment
            )

    def rotate(self, signing_key: SigningKey) -> None:
        """Hand the chain over to the node's new key, by a row that the present key signs."""
        self._chain.hand_over(signing_key)


def _ids(row: int, charges: Sequence[Charge]) -> tuple[str, ...]:
    return tuple(f"{row}/{charge.purpose}" for charge in charges)
