"""What an open ledger can tell without changing anything."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from privacy import ledger_audit
from privacy.charges import Partition, select
from privacy.composition import displayed_epsilons
from privacy.ledger_audit import Budget, Point, Report
from privacy.ledger_chain import Chain
from privacy.ledger_rules import Account
from protocol.keyfile import replace_file


class Reader:
    """The looking half of a ledger; `privacy.ledger.Ledger` adds what changes it.

    Args:
        chain: The open chain.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def close(self) -> None:
        """Let go of the file."""
        self._chain.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def attempts(self, job: str) -> int:
        """The highest attempt that released anything, 0 when none did; the next is one higher."""
        account = self._chain.current().accounts.get(job)
        return 0 if account is None else account.attempts

    def account(self, job: str) -> Account | None:
        """What was asked for a job and what became of it, None where nothing ever was."""
        return self._chain.current().accounts.get(job)

    def finished(self, job: str) -> bool:
        """Whether a job is over here: settled, or marked as finished."""
        account = self._chain.current().accounts.get(job)
        return account is not None and account.over

    def spent(self, *, population: str, partition: Partition, delta: float) -> tuple[float, float]:
        """Both epsilons of all that is reserved or settled, by the tightest count.

        Returns:
            Epsilon under the stated trust, and if every other hospital colludes.
        """
        return displayed_epsilons(
            select(self._chain.current().counted(), population, partition), delta
        )

    @property
    def head(self) -> str:
        """Hash of the last row, which fixes all rows before it."""
        return self._chain.current().head

    def verify(self) -> Report:
        """Read the whole file again: pages, chain, each signature, each decision, each epsilon.

        Raises:
            IntegrityError: Says which row does not hold.
        """
        store = self._chain.store
        store.check_pages()
        self._chain.current()
        return ledger_audit.audit(store.rows(1), store.split_keys())

    def report(self) -> Report:
        """The same report without reading the file again."""
        return ledger_audit.report(self._chain.current())

    def history(self) -> dict[Budget, list[Point]]:
        """Both epsilons after each row that changed them, by population and partition."""
        return ledger_audit.history(self._chain.store.rows(1))

    def jobs(self) -> list[Account]:
        """Each job that ever asked for budget, in order, refused requests included."""
        state = self._chain.current()
        return sorted([*state.accounts.values(), *state.refused], key=lambda account: account.row)

    def export(self, path: Path) -> None:
        """Write the chain as JSON, whole or not at all; the split keys stay here.

        Raises:
            InputError: The file cannot be written.
        """
        replace_file(path, ledger_audit.to_json(self._chain.store.rows(1)))
