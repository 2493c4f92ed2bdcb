"""A hospital as its node sees it: configuration, keys, trust, ledger, journal and records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from client.data.config import SourceConfig
from client.data.gathering import gather_sides
from client.data.opening import open_source
from client.data.source import Source, again
from client.data.split import Identity, is_held_out
from client.data.units import conversions
from client.node_config import NodeConfig
from client.policy import Policy, Population, caps_of
from learning.schema import Schema
from learning.task import Records, Report, Task
from privacy.budget import Caps
from privacy.ledger import Ledger
from privacy.noise import Entropy, SeededEntropy, SystemEntropy
from protocol.config import read
from protocol.errors import InputError
from protocol.jobs import Job
from protocol.journal import Journal
from protocol.roster import Roster, Trust, load_pinned
from protocol.signing import SigningKey

Partition = Literal["train", "test"]
JOURNAL_WAIT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """One data set of the hospital.

    Args:
        source: Where its records are and what its columns are called there.
        population: Whose patients they are; the budget belongs to the population.
        patient: Column that names the patient, under its schema name. The split goes by it,
            whatever a job's schema names, so name it where there is one. Otherwise the split goes
            by the job's patient column or, where the job has none, by all cells of a record; then
            a column that is added or renamed moves records from one side to the other.
        test_fraction: Share of patients held out for evaluation, by keyed hash of the patient.
        train_size: Declared, rounded number of training patients; where given, a job must state
            it.
        test_size: The same of held-out patients.
    """

    source: SourceConfig
    population: str
    patient: str | None = None
    train_size: int | None = None
    test_size: int | None = None
    test_fraction: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.test_fraction < 1:
            raise InputError("test_fraction", expected="0 <= x < 1", found=str(self.test_fraction))


@dataclass(frozen=True, kw_only=True)
class HospitalConfig:
    """A hospital's configuration file; relative paths are relative to the file.

    Args:
        name: The hospital's name in the roster.
        datasets: Data sets by the name that jobs use.
        populations: Populations by name, each with its budget.
        policy: What jobs may do here.
        keys: Folder of the key files.
        roster: The pinned roster.
        trust: What the administrator confirmed.
        ledger: The privacy ledger.
        journal: The signed record of everything that was released.
        models: Where finished models are kept.
        node: How the hospital's node runs.
    """

    name: str
    datasets: Mapping[str, DatasetConfig]
    populations: Mapping[str, Population]
    policy: Policy = field(default_factory=Policy)
    keys: Path = Path("keys")
    roster: Path = Path("roster.json")
    trust: Path = Path("trust.json")
    ledger: Path = Path("ledger.sqlite")
    journal: Path = Path("journal.jsonl")
    models: Path = Path("models")
    node: NodeConfig = field(default_factory=NodeConfig)

    def __post_init__(self) -> None:
        for name, dataset in self.datasets.items():
            if dataset.population not in self.populations:
                raise InputError(
                    f"datasets.{name}.population",
                    expected=f"one of {', '.join(sorted(self.populations)) or 'populations'}",
                    found=dataset.population,
                )


@dataclass(frozen=True, kw_only=True)
class Split:
    """A data set's records on both sides, and what preprocessing met (stays in the hospital)."""

    train: Records
    test: Records
    train_report: Report
    test_report: Report


class Hospital:
    """An opened hospital. Close it, or use it as a context manager.

    Args:
        config: The configuration.
        base: Folder that its relative paths start from.
        clock: Present time with a time zone.
        seed: Seeded noise, for tests and simulations over data marked public; None for the
            operating system's entropy, which is what a hospital's node always uses.
        split_key: For simulations that compare several runs on the same split, over data marked
            public; None for the ledger's own key.

    Raises:
        InputError: A file is missing or wrong.
    """

    def __init__(
        self,
        config: HospitalConfig,
        base: Path,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        seed: int | None = None,
        split_key: bytes | None = None,
    ) -> None:
        self.config = config
        self.base = base
        self.clock = clock
        self._seed = seed
        self._split_key = split_key
        self.key = SigningKey.load(base / config.keys / "signing.key")
        self.trust = Trust.load(base / config.trust)
        self.roster: Roster = load_pinned(base / config.roster, self.trust)
        self.ledger = Ledger.open(base / config.ledger, self.key)
        try:
            # Every job of a node has a process, and all write into one journal.
            self.journal = Journal.open(base / config.journal, self.key, wait_s=JOURNAL_WAIT_S)
        except BaseException:
            self.ledger.close()
            raise
        self._splits: dict[tuple[str, str], Split] = {}

    @classmethod
    def open(
        cls, path: Path, *, seed: int | None = None, split_key: bytes | None = None
    ) -> Hospital:
        """Open the hospital of a configuration file."""
        return cls(read(HospitalConfig, path), path.parent, seed=seed, split_key=split_key)

    def close(self) -> None:
        """Release the ledger's and the journal's files."""
        self.ledger.close()
        self.journal.close()

    def __enter__(self) -> Hospital:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The hospital's name in the roster."""
        return self.config.name

    @property
    def models(self) -> Path:
        """Folder of finished models."""
        return self.base / self.config.models

    def population(self, dataset: str) -> Population | None:
        """The population of a data set, None when there is no such set."""
        found = self.config.datasets.get(dataset)
        return None if found is None else self.config.populations[found.population]

    def caps(self, job: Job) -> Caps:
        """The lifetime caps that a job's releases count against, see `client.policy.caps_of`."""
        population = self.config.datasets[job.dataset].population
        return caps_of(job, self.config.populations[population].budget)

    def columns(self, dataset: str) -> tuple[str, ...]:
        """Columns that a data set declares; reads no record."""
        return () if dataset not in self.config.datasets else again(self._source(dataset).columns)

    def entropy(self, dataset: str, *context: str) -> Entropy:
        """Where noise, rounding and sampling for one release draw from.

        Raises:
            InputError: Seeded noise was asked for over data that are not marked public.
        """
        if self._seed is None:
            return SystemEntropy()
        self._require_public(dataset, "seeded noise protects nobody")
        return SeededEntropy(self._seed, self.name, *context)

    def split(self, dataset: str, task: Task, *, cache: str) -> Split:
        """The data set's records, split by patient.

        Args:
            dataset: Its name in the configuration.
            task: What turns columns into records.
            cache: Under which key to keep the result for the next message of the same job.
        """
        key = (dataset, cache)
        if key not in self._splits:
            source = self._source(dataset)
            # One reading of both, since the file may be replaced between two.
            (train, train_report), (test, test_report) = gather_sides(
                source,
                task,
                identity=self._identity(dataset, task.schema, source),
                held_out=partial(self._held_out, dataset),
                units=conversions(self.config.datasets[dataset].source.units, task.schema),
            )
            self._splits = {
                key: Split(
                    train=train, test=test, train_report=train_report, test_report=test_report
                )
            }
        return self._splits[key]

    def forget(self) -> None:
        """Drop records kept in memory."""
        self._splits = {}

    def _require_public(self, dataset: str, problem: str) -> None:
        population = self.population(dataset)
        if population is None or not population.public:
            raise InputError(
                problem,
                expected="a population marked 'public: true'",
                found=dataset,
                remedy="leave seed and split key to simulations",
            )

    def _source(self, dataset: str) -> Source:
        return open_source(self.config.datasets[dataset].source, self.base)

    def _identity(self, dataset: str, schema: Schema, source: Source) -> tuple[str, ...]:
        """The columns that say who a record is of."""
        patient = self.config.datasets[dataset].patient or schema.patient
        # All cells, whatever the job's schema reads: then no job moves a record across.
        return tuple(sorted(again(source.columns))) if patient is None else (patient,)

    def _held_out(
        self, dataset: str, identity: Sequence[Identity]
    ) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        config = self.config.datasets[dataset]
        if self._split_key is not None:
            self._require_public(dataset, "a split key that others know bares who is held out")
        key = self._split_key or self.ledger.split_key(config.population)
        return is_held_out(identity, key, config.test_fraction)
