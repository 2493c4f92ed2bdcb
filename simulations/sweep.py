"""Every arm over every seed, on the same patients, hospitals and splits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from client.hospital import Split
from learning.artefact import load
from learning.task import FloatVector, Records, Task, load_task
from privacy.guards import run_guards
from privacy.he.sum import SumProcess
from protocol.errors import FedwardError, InputError
from protocol.jobs import Job
from server.jobs import resolve
from server.launch import Event, Outcome
from simulations.arrays import Cells, rows_of, texts_of
from simulations.baselines import local_only, pooled
from simulations.config import FEDERATED, Arm, Simulation, SimulationConfig
from simulations.consortium import Consortium, declared, found, hospital_names
from simulations.data import Data, load_data
from simulations.engine import run_job
from simulations.held_out import HeldOut
from simulations.partition import deal
from simulations.results import HospitalSummary, Result, Row, Shown
from simulations.scaling import scaled, spent
from simulations.subgroup_results import SubgroupRow

SEEDED_NOTE = "noise was seeded: these runs protect nobody"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a sweep is, for who watches.

    Args:
        arm: The arm that runs.
        seed: Its seed.
        done: Runs that are over.
        total: Runs in all.
        arms: Runs of one seed; every seed has the same, in the same order.
        share: How much of the run is done, 0 to 1; 0 where nothing tells.
        event: What happened in the run, None when it begins.
    """

    arm: Arm
    seed: int
    done: int
    total: int
    arms: int
    share: float = 0.0
    event: Event | None = None


Watch = Callable[[Progress], None]


@dataclass
class _Tally:
    """What the seeds of one arm gave."""

    arm: Arm
    epsilon_worst: float | None = None
    epsilon_table: float | None = None
    epsilon_both: float | None = None
    epsilon_both_worst: float | None = None
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    bytes_up: list[int] = field(default_factory=list)
    subgroups: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    first: HeldOut | None = None

    def add(self, held_out: HeldOut) -> None:
        """Note how good a model is, for everybody and for each subgroup."""
        self.scores.append(held_out.score())
        self.first = self.first or held_out
        for column, level, score in held_out.subgroups():
            found = self.subgroups.setdefault((column, level), [])
            found += [] if score is None else [score]

    def subgroup_rows(self) -> list[SubgroupRow]:
        return [
            SubgroupRow(
                arm=self.arm.arm,
                epsilon=self.arm.epsilon,
                column=column,
                level=level,
                scores=tuple(scores),
            )
            for (column, level), scores in self.subgroups.items()
        ]

    def shown(self) -> list[Shown]:
        """The first model for pictures; one of a single hospital would speak for itself alone."""
        if self.first is None or self.arm.arm == "local_only":
            return []
        return [Shown(arm=self.arm.arm, epsilon=self.arm.epsilon, held_out=self.first)]

    def row(self) -> Row:
        return Row(
            arm=self.arm.arm,
            epsilon=self.arm.epsilon,
            epsilon_worst=self.epsilon_worst,
            scores=tuple(self.scores),
            seconds_per_round=float(np.median(self.seconds)) if self.seconds else None,
            bytes_up_per_round=int(np.median(self.bytes_up)) if self.bytes_up else None,
            epsilon_table=self.epsilon_table,
            epsilon_both=self.epsilon_both,
            epsilon_both_worst=self.epsilon_both_worst,
        )

    def charge(self, job: Job, table: Job | None, consortium: Consortium) -> None:
        """Note what a private arm's jobs cost."""
        if self.arm.epsilon is None:
            return
        self.epsilon_worst = job.privacy.epsilon_worst
        if table is not None:
            self.epsilon_table = table.privacy.epsilon
            both, worst = spent(consortium)
            self.epsilon_both = max(self.epsilon_both or 0.0, both)
            self.epsilon_both_worst = max(self.epsilon_both_worst or 0.0, worst)


def run(
    simulation: Simulation, *, watch: Watch = lambda _: None, keep: Path | None = None
) -> Result:
    """Run a whole simulation; this is what `fedward simulate` and notebooks call.

    Args:
        simulation: What to compare, see `simulations.config.read_simulation`.
        watch: Called with progress.
        keep: Folder in which the virtual hospitals stay, with their ledgers, journals and models;
            left out, they are removed.

    Returns:
        One row for each arm. A score is that of the finished model on the union of all hospitals'
        held-out patients, without noise, which only a simulation can compute.

    Raises:
        InputError: Something in the configuration does not fit.
        FedwardError: A federated job failed.
    """
    config, request = simulation.config, simulation.request
    data = load_data(config.data)
    task = load_task(request.task, request.schema)
    if any(arm.epsilon is not None for arm in config.arms):
        # Every node runs these too, but answers with no more than a code.
        run_guards(
            task.model,
            task.loss,
            task.generate,
            clip=request.privacy.clip,
            unit=task.schema.unit,
        )
    tallies = [_Tally(arm) for arm in config.arms]
    summaries: tuple[HospitalSummary, ...] = ()
    digest = ""
    total = len(config.seed_list) * len(tallies)
    with SumProcess() as child:
        for index, seed in enumerate(config.seed_list):
            bench = _Bench(simulation, data, task, seed, child, keep)
            for place, tally in enumerate(tallies):
                done = index * len(tallies) + place
                progress = Progress(
                    arm=tally.arm, seed=seed, done=done, total=total, arms=len(tallies)
                )
                watch(progress)
                digest = bench.run(tally, watch, progress) or digest
            summaries = summaries or bench.summaries()
    return Result(
        name=config.name,
        rows=tuple(tally.row() for tally in tallies),
        delta=request.privacy.delta,
        seeds=config.seed_list,
        model_sha256=digest,
        hospitals=summaries,
        notes=(SEEDED_NOTE,) if config.seeded_noise else (),
        measure=task.measure,
        subgroups=tuple(row for tally in tallies for row in tally.subgroup_rows()),
        shown=tuple(one for tally in tallies for one in tally.shown()),
    )


class _Bench:
    """One seed: the hospitals' shares, and the arms on them."""

    def __init__(
        self,
        simulation: Simulation,
        data: Data,
        task: Task,
        seed: int,
        child: SumProcess,
        keep: Path | None,
    ) -> None:
        self._simulation = simulation
        self._config = simulation.config
        self._task = task
        self._seed = seed
        self._child = child
        self._keep = keep
        self._shares = dealt(self._config, data, task, seed)
        with tempfile.TemporaryDirectory(prefix="fedward-") as folder:
            consortium = self._found(Path(folder))
            self.splits: Mapping[str, Split] = consortium.splits(task)
            self._check_arms(consortium)

    def _check_arms(self, consortium: Consortium) -> None:
        """Refuse an arm that cannot run before any other has run for minutes.

        Raises:
            InputError: Names the arm.
        """
        if self._simulation.statistics is not None:
            return  # what a job scales by is known when its table is
        for arm in self._config.arms:
            if arm.arm in FEDERATED:
                try:
                    resolve(
                        self._simulation.job_request(arm, declared(self.splits)),
                        consortium.origin(),
                    )
                except InputError as error:
                    raise error.at(f"arm {arm.arm!r}") from error

    def summaries(self) -> tuple[HospitalSummary, ...]:
        """What the simulation may say of its hospitals, since their data are public."""
        return tuple(
            HospitalSummary(
                name=name,
                train_size=split.train.num_patients,
                test_size=split.test.num_patients,
                positives=_positives(self._task, split.train),
            )
            for name, split in self.splits.items()
        )

    def run(self, tally: _Tally, watch: Watch, progress: Progress) -> str:
        """Run an arm; returns the digest of its model where there is one model."""
        arm = tally.arm
        if arm.arm not in FEDERATED:
            for weights in self._baseline(arm):
                tally.add(HeldOut.of(self._task, weights, self.splits))
            return ""
        if self._keep is not None:
            return self._federated(self._kept(arm), tally, watch, progress)
        with tempfile.TemporaryDirectory(prefix="fedward-") as folder:
            return self._federated(Path(folder), tally, watch, progress)

    def _kept(self, arm: Arm) -> Path:
        """A new folder for one arm and seed.

        Raises:
            InputError: An earlier simulation left its hospitals there.
        """
        epsilon = "" if arm.epsilon is None else f"-{arm.epsilon:g}"
        folder = Path(self._keep or "") / f"{arm.arm}{epsilon}-seed-{self._seed}"
        if folder.exists():
            raise InputError(
                f"{folder}: exists already", remedy="name another folder, or remove this one"
            )
        return folder

    def _baseline(self, arm: Arm) -> Sequence[FloatVector]:
        if arm.arm == "pooled":
            return [pooled(self._task, self.splits, self._config.baseline_steps)]
        return list(local_only(self._task, self.splits, self._config.baseline_steps).values())

    def _federated(self, folder: Path, tally: _Tally, watch: Watch, progress: Progress) -> str:
        consortium = self._found(folder)
        request, table = scaled(
            self._simulation, tally.arm, declared(self.splits), consortium, self._child
        )
        job = resolve(request, consortium.origin())

        def observe(event: Event) -> None:
            if event.kind == "round":
                tally.seconds.append(event.seconds)
                tally.bytes_up.append(event.bytes_up)
            share = min(1.0, event.round / job.training.rounds)
            watch(replace(progress, share=share, event=event))

        outcome = run_job(
            consortium, job, engine=self._config.engine, watch=observe, child=self._child
        )
        _require_completed(tally.arm, outcome)
        tally.charge(job, table, consortium)
        model = load(folder / consortium.names[0] / "models" / job.name / "1")
        task, splits = self._task, self.splits
        if table is not None:
            task = load_task(request.task, request.schema)
            splits = consortium.splits(task)
        tally.add(HeldOut.of(task, model.weights_P, splits))
        return model.card.digests.weights

    def _found(self, folder: Path) -> Consortium:
        config = self._config
        chosen = [arm.strategy.name for arm in config.arms if arm.strategy is not None]
        return found(
            folder,
            self._shares,
            dataset=config.name,
            test_fraction=config.test_fraction,
            modes=("distributed", "local", "none"),
            strategies=("fedsgd", "fedavg", "fedprox", "tally", *chosen),
            tasks=(self._simulation.request.task.name, "statistics"),
            noise_seed=self._seed if config.seeded_noise else None,
            split_seed=self._seed,
        )


def _positives(task: Task, records: Records) -> float:
    """Share of records whose label is the second class; of a label without classes, 0."""
    classes = len(task.schema.label.texts)
    return float(np.mean(records.y_N % classes == 1)) if classes and len(records) else 0.0


def dealt(config: SimulationConfig, data: Data, task: Task, seed: int) -> dict[str, Cells]:
    """Each virtual hospital's records."""
    schema, table = task.schema, data.table
    for column in schema.column_names:
        if column not in table:
            raise InputError(f"the data have no column {column!r}", expected=", ".join(table))
    texts = {name: texts_of(cells) for name, cells in table.items() if np.ndim(cells) == 1}
    parts = deal(
        config.partition,
        texts[schema.label.name],
        config.hospitals,
        np.random.default_rng(seed),
        texts,
        patients=None if schema.patient is None else texts[schema.patient],
    )
    names = hospital_names(len(parts))
    return {name: rows_of(table, part.tolist()) for name, part in zip(names, parts, strict=True)}


def _require_completed(arm: Arm, outcome: Outcome) -> None:
    if outcome.status != "completed":
        refusals = ", ".join(f"{site}: {code}" for site, code in outcome.refusals.items())
        raise FedwardError(
            f"arm {arm.arm!r} ended without a model", found=f"{outcome.reason} ({refusals})"
        )
