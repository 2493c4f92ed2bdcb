"""The open chain: rows in a file, what they add up to so far, and the key that signs the next.

Before each use the chain reads what other processes have added and holds it against the last head
it saw, so rows that are changed or taken away under a running node are noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

from privacy.ledger_heads import rows_missing, sign_head
from privacy.ledger_state import CONTEXT, RELATION, State
from privacy.ledger_store import Row, Store
from protocol.errors import InputError, IntegrityError
from protocol.signing import SigningKey, fingerprint


class Chain:
    """Rows of one ledger file; see privacy.ledger for what they mean.

    Args:
        store: The open file.
        signing_key: The node's key; None for reading only.
        clock: The time of rows whose caller names none.

    Raises:
        IntegrityError: A row does not hold.
        InputError: The ledger is another node's.
    """

    def __init__(
        self, store: Store, signing_key: SigningKey | None, clock: Callable[[], datetime]
    ) -> None:
        self.store = store
        self._key = signing_key
        self._clock = clock
        self._state = State()
        self._added: list[Row] = []
        self._broken: IntegrityError | None = None
        self._check_key(self.current())

    @classmethod
    def open(
        cls,
        path: Path,
        signing_key: SigningKey | None,
        clock: Callable[[], datetime],
        busy_timeout_s: float,
    ) -> Self:
        """Open a chain, or begin one where there is none and a key is given."""
        if signing_key is not None and not path.exists():
            first = {"public": signing_key.public, "relation": RELATION}
            body = State().next_body("genesis", clock(), first)
            Store.create(path, _sign(1, body, signing_key))
        store = Store(path, writable=signing_key is not None, busy_timeout_s=busy_timeout_s)
        try:
            return cls(store, signing_key, clock)
        except BaseException:
            store.close()
            raise

    def current(self) -> State:
        """The state after every row that is in the file now.

        Raises:
            IntegrityError: A row does not hold, or rows that were there are gone.
        """
        if self._broken is not None:
            raise self._broken
        rows = self.store.rows(max(self._state.number, 1))
        try:
            self._follow(rows)
        except IntegrityError as error:
            self._broken = error
            raise
        return self._state

    def _follow(self, rows: list[Row]) -> None:
        """Apply rows whose first one must be the last that was seen."""
        state = self._state
        if not rows or (state.number and rows[0].hash != state.head):
            raise IntegrityError(
                f"{self.store.path}: rows of the privacy ledger are gone",
                remedy="put back the newest copy; the node blocks if that copy lacks rows",
            )
        for row in rows[1:] if state.number else rows:
            state.follow(row, check_signature=row is rows[-1])

    def _check_key(self, state: State) -> None:
        """Another process may have handed the chain over to a new key meanwhile."""
        if self._key is not None and self._key.public != state.public:
            raise InputError(
                f"{self.store.path}: the privacy ledger of another key",
                expected=f"signing key {fingerprint(state.public)}",
                found=self._key.fingerprint,
            )

    @contextmanager
    def writing(self, *, although_blocked: bool = False) -> Iterator[State]:
        """A transaction on the present state that no other writer shares.

        Raises:
            InputError: The ledger is open for reading only, or another key signs it now.
            RefusalError: The ledger is blocked.
            IntegrityError: The ledger does not hold.
            BusyError: Another process is writing for too long.
        """
        if self._key is None:
            raise InputError("the privacy ledger is open for reading only")
        self._added = []
        with self.store.writing():
            state = self.current()
            self._check_key(state)
            if not although_blocked:
                check_unblocked(state)
            yield state
        for row in self._added:
            state.follow(row, check_signature=False)

    def append(self, kind: str, fields: Mapping[str, object], at: datetime | None = None) -> int:
        """Add and sign one row inside `writing`; it counts once the transaction is kept.

        Returns:
            The row's number.
        """
        if self._key is None:
            raise InputError("the privacy ledger is open for reading only")
        body = self._state.next_body(kind, at or self._clock(), fields)
        row = _sign(self._state.number + 1, body, self._key)
        self.store.append(row)
        self._added.append(row)
        return row.number

    def statement(self) -> bytes:
        """This node's signed word on how far the chain goes now."""
        if self._key is None:
            raise InputError("the privacy ledger is open for reading only")
        return sign_head(self.current().head, self._key)

    def hand_over(self, signing_key: SigningKey) -> None:
        """Let another key sign from now on, by a row that the present key signs."""
        with self.writing():
            self.append("key", {"public": signing_key.public})
        self._key = signing_key


def check_unblocked(state: State) -> None:
    """Refuse while rows are known to be missing.

    Raises:
        RefusalError: Rows of which this node told the coordinator are not in the chain.
    """
    if state.blocked is not None:
        raise rows_missing(state.blocked[1])


def _sign(number: int, body: bytes, key: SigningKey) -> Row:
    unsigned = Row(number, body, b"")
    return Row(number, body, key.sign(CONTEXT, bytes.fromhex(unsigned.hash)))
