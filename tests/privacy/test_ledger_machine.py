"""No interleaving of calls, handles, crashes and restarts makes the ledger forget a release."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from privacy.budget import Caps, Partition, Purpose
from privacy.ledger import Ledger
from protocol.errors import FedwardError
from tests.privacy.ledgers import KEY, NOW, charge, copy_of, gaussian_delta, job, mu_of

CAPS = Caps(epsilon=3.0, epsilon_worst=5.0, delta=1e-5)
PARTITIONS: dict[Purpose, Partition] = {"update": "train", "evaluation": "test"}

jobs = st.integers(1, 4)
handles = st.integers(0, 1)
# Noise under the stated trust and own noise: now the one cap binds, now the other.
noises = st.sampled_from([(3.0, 2.9), (3.0, 1.5), (30.0, 15.0)])


class LedgerMachine(RuleBasedStateMachine):
    """Two processes, as two handles, use one ledger; the model only remembers what left."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.copies = 0
        self.path = Path(self.folder.name) / "ledger.sqlite"
        self.noise: dict[int, tuple[float, float]] = {}
        self.left: Counter[tuple[int, str]] = Counter()

    @initialize()
    def begin(self) -> None:
        self.ledgers = [Ledger.open(self.path, KEY) for _ in range(2)]
        for number in (1, 2):
            self.reserve(0, number, 4, (30.0, 15.0))

    @rule(handle=handles, number=jobs, steps=st.integers(1, 4), noise=noises)
    def reserve(self, handle: int, number: int, steps: int, noise: tuple[float, float]) -> None:
        sigma, own = noise
        charges = [
            charge(number, steps, sigma=sigma, own=own),
            charge(number, 2, sigma=sigma, own=own, partition="test"),
        ]
        with suppress(FedwardError):
            self.ledgers[handle].reserve(charges, CAPS, NOW)
            self.noise[number] = noise

    @rule(
        number=jobs,
        purposes=st.lists(st.sampled_from(["update", "evaluation"]), min_size=1, max_size=6),
        epoch=st.sampled_from([1, 1, 2]),
        skip=st.sampled_from([1, 1, 1, 0, 2]),
    )
    def release(self, number: int, purposes: list[Purpose], epoch: int, skip: int) -> None:
        """Several releases in a row, through both handles in turn."""
        for turn, purpose in enumerate(purposes):
            ledger = self.ledgers[turn % 2]
            attempt = ledger.attempts(job(number)) + skip
            with suppress(FedwardError):
                ledger.record_release(
                    job=job(number), epoch=epoch, attempt=attempt, purpose=purpose, digest="0" * 64
                )
                self.left[number, purpose] += 1

    @rule(
        handle=handles,
        number=jobs,
        more=st.none() | st.tuples(st.integers(-2, 2), st.integers(-1, 1)),
    )
    def settle(self, handle: int, number: int, more: tuple[int, int] | None) -> None:
        """By the ledger's own count, or by a caller's who is a little off."""
        ledger = self.ledgers[handle]
        told = None
        for account in ledger.jobs():
            if more is not None and account.charges["update"].job == job(number):
                least = account.least_used.values()
                told = dict(zip(PARTITIONS, map(sum, zip(least, more, strict=True)), strict=True))
        with suppress(FedwardError):
            ledger.settle(job(number), NOW, told)

    @rule(handle=handles, number=jobs, end=st.sampled_from(["void", "mark_finished"]))
    def end(self, handle: int, number: int, end: str) -> None:
        with suppress(FedwardError):
            getattr(self.ledgers[handle], end)(job(number))

    @rule(handle=handles)
    def reopen(self, handle: int) -> None:
        self.ledgers[handle].close()
        self.ledgers[handle] = Ledger.open(self.path, KEY)

    @rule()
    def crash(self) -> None:
        """Both processes die; the disk holds what it holds."""
        self._go_on_with_a_copy()

    @rule(handle=handles, number=jobs, kind=st.sampled_from(["settle", "void", "finish"]))
    def crash_inside_a_transaction(self, handle: int, number: int, kind: str) -> None:
        """A row is written and not yet kept."""
        fields = {"job": job(number), "used": {"update": 0, "evaluation": 0}}
        with suppress(_Crash), self.ledgers[handle]._chain.writing():
            self.ledgers[handle]._chain.append(kind, fields)
            self._go_on_with_a_copy()
            raise _Crash

    def _go_on_with_a_copy(self) -> None:
        self.copies += 1
        dead = self.ledgers
        self.path = copy_of(self.path, Path(self.folder.name) / str(self.copies))
        self.ledgers = [Ledger.open(self.path, KEY) for _ in range(2)]
        self.dead = [*getattr(self, "dead", []), *dead]

    @invariant()
    def the_ledger_counts_at_least_what_left(self) -> None:
        for ledger in getattr(self, "ledgers", []):
            used = {
                (charge.job, purpose): account.used[purpose]
                for account in ledger.jobs()
                if account.status != "refused"
                for purpose, charge in account.charges.items()
            }
            for (number, purpose), count in self.left.items():
                assert used[job(number), purpose] >= count

    @invariant()
    def the_epsilons_cover_what_left_and_stay_under_the_caps(self) -> None:
        for purpose, partition in PARTITIONS.items():
            left = [
                (self.noise[n], count) for (n, one), count in self.left.items() if one == purpose
            ]
            for ledger in getattr(self, "ledgers", []):
                spent = ledger.spent(population="cardiology", partition=partition, delta=CAPS.delta)
                for kind, cap in enumerate((CAPS.epsilon, CAPS.epsilon_worst)):
                    assert spent[kind] <= cap
                    mu = mu_of((noise[kind], count) for noise, count in left)
                    assert not mu or gaussian_delta(mu, spent[kind]) <= 0.99e-5 * (1 + 1e-6)

    def teardown(self) -> None:
        for ledger in [*getattr(self, "ledgers", []), *getattr(self, "dead", [])]:
            ledger.close()
        if hasattr(self, "ledgers"):
            with Ledger.open(self.path, None) as ledger:
                ledger.verify()
        self.folder.cleanup()


class _Crash(Exception):  # noqa: N818 - an event of the test, not an error
    pass


TestLedgerMachine = LedgerMachine.TestCase
# Shrinking would take minutes; a history of thirty steps can be read as it is.
TestLedgerMachine.settings = settings(
    max_examples=settings().max_examples // 2,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
