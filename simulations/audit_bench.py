"""The pipeline under audit: real hospitals whose records are canaries, run whole and looked into.

`final_weights` runs the job as any other, encryption and masks included, and reads the model from
a hospital's store. `Inside` opens the same hospitals and calls what they call, for what no final
weight can tell: single contributions without noise, and noise without records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from client.admission import Admitted
from client.hospital import Hospital
from client.training import Local, contribution, total_of
from learning.artefact import load
from learning.task import Records, Task, load_task
from privacy.plan import DpPlan
from protocol.errors import FedwardError
from protocol.jobs import Job
from server.jobs import resolve
from simulations.audit_config import DATASET, MOVE, AuditConfig, BoolVector, FloatArray
from simulations.consortium import Consortium, found
from simulations.engine import run_job
from strategies.base import FloatVector, State, Total, strategy_of

IntVector = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A consortium of canaries and the job that is audited.

    Args:
        config: The audit.
        consortium: The virtual hospitals.
        job: The resolved job.
    """

    config: AuditConfig
    consortium: Consortium
    job: Job

    @classmethod
    def build(cls, config: AuditConfig, folder: Path, inside_M: BoolVector) -> Bench:
        """Give every hospital its keys, its ledger and its canaries, and resolve the job.

        Args:
            config: The audit.
            folder: An empty or missing folder.
            inside_M: Which canaries are in the hospitals' files.
        """
        consortium = found(
            folder,
            config.shares(inside_M),
            dataset=DATASET,
            test_fraction=0.0,
            modes=("distributed", "local"),
            strategies=("fedsgd", "fedavg"),
            tasks=("diagnosis",),
            noise_seed=config.seed,
            split_seed=0,
        )
        job = resolve(config.request(), consortium.origin())
        return cls(config=config, consortium=consortium, job=job)

    @cached_property
    def task(self) -> Task:
        """The job's task."""
        return load_task(self.job.task, self.job.schema)

    def final_weights(self) -> FloatVector:
        """Run the job, encryption included, and read the model that it left, P values.

        Raises:
            FedwardError: The job failed.
        """
        with one_thread():
            outcome = run_job(self.consortium, self.job)
        if outcome.status != "completed":
            refusals = ", ".join(f"{site}: {code}" for site, code in outcome.refusals.items())
            raise FedwardError(
                "the audited job ended without a model", found=f"{outcome.reason} ({refusals})"
            )
        place = self.consortium.folder / self.config.names[0] / "models" / self.job.name / "1"
        return load(place).weights_P

    def moves(self, weights_P: FloatVector) -> FloatArray:
        """How far the weights of each canary's row lie from zero: M x C, in clips of one round."""
        rows_CM = self.task.layout().split(weights_P)["output.weight"]
        moves_MC: FloatArray = rows_CM.T / MOVE
        return moves_MC

    @contextmanager
    def opened(self) -> Iterator[Inside]:
        """The hospitals, open."""
        with ExitStack() as stack:
            stack.enter_context(one_thread())
            hospitals = {
                name: stack.enter_context(self.consortium.open(name)) for name in self.config.names
            }
            yield Inside(self, hospitals)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: with canaries' small batches more of them only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Inside:
    """What only one who holds every hospital can see; hospitals never show it to anybody.

    Args:
        bench: The canaries and the job.
        hospitals: The open hospitals.
    """

    def __init__(self, bench: Bench, hospitals: Mapping[str, Hospital]) -> None:
        self._bench = bench
        self._hospitals = hospitals
        self._job = bench.job
        task = bench.task
        self._admitted = Admitted(bench.job, task, strategy_of(bench.job, task.layout().size))
        self._plan = DpPlan.of(bench.job.privacy, "train", len(hospitals))
        self._start = self._admitted.strategy.init(task.initial(bench.job.training.seed))

    def final_weights(self, inside_M: BoolVector) -> FloatVector:
        """The job's weights from plain sums: no keys, no masks, no ciphertext.

        Args:
            inside_M: Canaries to train on.
        """
        state = self._start
        records = self._bench.config.records(inside_M)
        for attempt in range(1, self._job.training.rounds + 1):
            values = [
                self._contribution(name, attempt, self._plan, records[name], state)
                for name in self._hospitals
            ]
            state = self._admitted.strategy.step(state, self._total(np.sum(values, axis=0)))
        return state.weights

    def batches(self, rate: float, count: int, inside_M: BoolVector) -> FloatArray:
        """What each canary moves in batches without noise: hospitals x batches x M, in clips.

        Nodes refuse such a plan; it never leaves this process.

        Args:
            rate: Sampling probability.
            count: Batches at each hospital.
            inside_M: Canaries to draw from.
        """
        config = self._bench.config
        silent = replace(self._plan.release, noise_multiplier=0.0, sampling_rate=rate)
        plan = replace(self._plan, release=silent)
        # A hospital's mean of its own batch is divided by the rate, a sum of gradients is not.
        unit = rate / self._job.privacy.update.sampling_rate if plan.mode == "local" else 1.0
        moved_KBM = np.zeros((config.hospitals, count, config.canaries))
        for place, (name, records) in enumerate(config.records(inside_M).items()):
            for batch in range(count):
                values = self._contribution(name, batch + 1, plan, records, self._start)
                state = self._admitted.strategy.step(self._start, self._total(values))
                moves_MC = self._bench.moves(state.weights)
                moved_KBM[place, batch] = unit * (moves_MC * config.direction_MC).sum(axis=1)
        return moved_KBM

    def noise(self, rounds: int) -> FloatArray:
        """What hospitals release when they have no records at all: V x P, V noise vectors."""
        config = self._bench.config
        nobody = config.records(np.zeros(config.canaries, dtype=np.bool_))
        vectors = [
            self._contribution(name, attempt, self._plan, records, self._start)
            for attempt in range(1, rounds + 1)
            for name, records in nobody.items()
        ]
        return np.array(vectors, dtype=np.float64)

    def _contribution(
        self, name: str, attempt: int, plan: DpPlan, records: Records, state: State
    ) -> IntVector:
        entropy = self._hospitals[name].entropy(DATASET, self._job.name, str(attempt), "update")
        local = Local(
            admitted=self._admitted, site=name, plan=plan, records=records, entropy=entropy
        )
        return contribution(local, state)

    def _total(self, values: IntVector) -> Total:
        kind = self._admitted.strategy.contribution
        return total_of(self._job, values, self._bench.config.names, kind)
