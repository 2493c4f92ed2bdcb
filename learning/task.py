"""What a task is, what its records are, and how a job's task is found.

A task says how columns become tensors, which model is learnt, what one record's loss is, how the
model predicts, and which counts evaluate it. It knows nothing of privacy, encryption or transport.
Nothing here imports torch: the coordinator needs a task's layout and initial weights only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from learning.outputs import Answers, Output
from learning.schema import Schema
from protocol.config import parse
from protocol.errors import FedwardError, InputError
from protocol.jobs import Named
from protocol.tensors import Layout

FloatVector = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]

Cells = Sequence[str | float | None] | npt.NDArray[Any]
"""A column: one scalar per row, or an array N x ... whose first axis is the row (NaN: no value)."""

Table = Mapping[str, Cells]
"""Equally long columns by name."""

GROUP = "fedward.tasks"


@dataclass(frozen=True, kw_only=True)
class Records:
    """Records ready for a model: one row each, patients as small integers.

    Args:
        x_NF: Features, finite and scaled by the schema's public constants.
        y_N: Targets as the task codes them. Where the schema's label has C classes, an integer
            that leaves the label's class when divided by C; otherwise a number.
        patient_N: Which patient a record belongs to, numbered in order of first appearance in the
            table, rows that are left out included; every row its own where the schema names no
            patient column.

    >>> records = Records(
    ...     x_NF=np.zeros((3, 2)), y_N=np.array([0, 1, 1]), patient_N=np.array([0, 0, 1])
    ... )
    >>> len(records), records.num_patients
    (3, 2)
    """

    x_NF: FloatArray  # noqa: N815 - the shape is part of the name
    y_N: npt.NDArray[np.int64] | npt.NDArray[np.float64]  # noqa: N815
    patient_N: IntVector  # noqa: N815

    def __post_init__(self) -> None:
        if not len(self.x_NF) == len(self.y_N) == len(self.patient_N):
            raise InputError("records whose features, targets and patients differ in number")

    def __len__(self) -> int:
        return len(self.x_NF)

    @property
    def num_patients(self) -> int:
        """How many different patients the records belong to."""
        return len(np.unique(self.patient_N))

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Records:
        """The records at `index`, patients' numbers unchanged.

        Args:
            index: Positions (M,), or a mask (N,).
        """
        return Records(x_NF=self.x_NF[index], y_N=self.y_N[index], patient_N=self.patient_N[index])


@dataclass(frozen=True)
class Finding:
    """How often one problem occurred in one column; never which value or which record."""

    column: str
    problem: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What preprocessing met in a table. It holds exact counts and stays inside the hospital.

    Args:
        rows: Rows of the table.
        kept: Rows that became records.
        findings: Problems by column, in the schema's order.
    """

    rows: int
    kept: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The numbers of a task in the default recipe, see docs/privacy.md.

    Args:
        kappa: Path length per unit of signal.
        rounds: Rounds.
    """

    kappa: float
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Measure:
    """The one number by which models of a task are compared.

    Args:
        name: Short, as it stands over a column.
        title: In words, with a capital letter and no full stop.
        ascending: Whether a larger number is a better model.
    """

    name: str
    title: str
    ascending: bool = True


@dataclass(frozen=True)
class Metric:
    """An estimate and its 95 % confidence interval, noise of the counts included."""

    value: float
    low: float
    high: float


class Evaluation(Protocol):
    """Counts that evaluate a model, that add up over patients and sites, and bear noise."""

    @property
    def length(self) -> int:
        """E, the number of counts."""

    @property
    def norm(self) -> float:
        """Largest L2 norm of one patient's counts."""

    def vectors(
        self, probs_NC: FloatArray, y_N: npt.NDArray[Any], patient_N: IntVector
    ) -> FloatArray:
        """Each patient's counts, U x E, patients in ascending order.

        Guarantee: no row's L2 norm exceeds `norm`, and sums of rows are free of rounding.
        """

    def counts(
        self, probs_NC: FloatArray, y_N: npt.NDArray[Any], patient_N: IntVector
    ) -> FloatVector:
        """The sum over patients of `vectors`, E numbers, without building the table."""

    def metrics(self, counts_E: FloatVector, noise_std: float = 0.0) -> dict[str, Metric]:
        """Metrics of pooled counts; those that the counts do not determine are left out.

        Args:
            counts_E: Sum over patients and sites, noised or not.
            noise_std: Standard deviation of the noise of each count, in counts.
        """


class Task(Protocol):
    """The contract that every task keeps; tests/contracts/test_tasks.py runs over all of them."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any], schema: Schema) -> Self:
        """Build the task from a job's options.

        Raises:
            InputError: An option is unknown, ill-typed or does not fit the schema.
        """

    @property
    def schema(self) -> Schema:
        """The columns that the task reads."""

    @property
    def recipe(self) -> Recipe:
        """How the model is learnt where the job does not say it."""

    @property
    def evaluation(self) -> Evaluation:
        """How the model is counted on held-out patients."""

    @property
    def measure(self) -> Measure:
        """What `score` computes."""

    @property
    def is_logistic(self) -> bool:
        """Whether the model is one linear score of two classes: a weight a feature, bias last."""

    def layout(self) -> Layout:
        """Names and shapes of the P parameters, in order."""

    def initial(self, seed: int) -> FloatVector:
        """Public initial weights, P numbers, the same bits on every machine."""

    def records(self, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; rows without a label or a patient are left out."""

    def features(self, table: Table) -> tuple[FloatArray, Report]:
        """Turn raw columns into features N x F, one row each, for prediction."""

    def model(self) -> Any:
        """A `torch.nn.Module` in double precision; its named parameters are `layout()`'s."""

    def loss(self, output: Any, target: Any) -> Any:
        """Loss of each record, a tensor (B,), from the model's output and the targets."""

    def predict(self, weights_P: FloatVector, x_NF: FloatArray) -> FloatArray:
        """Predictions N x C, each row independent of the others to the last bit.

        What the C columns are is the task's matter: probabilities of classes, a survival curve,
        quantiles.
        """

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What `answers` tells of a prediction, in order."""

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """The outputs of predictions N x C by name, each row independent of the others."""

    def score(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """The measure, exactly, where all records are in one place: simulations and baselines.

        Raises:
            InputError: The records do not determine it.
        """

    def generate(self, n: int, rng: np.random.Generator) -> Records:
        """Invent `n` records within the schema's bounds, for guards and tests."""


@cache
def installed() -> dict[str, EntryPoint]:
    """Tasks that are installed on this machine, by name, looked up once in a process."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def load_task(named: Named, schema: Mapping[str, Any]) -> Task:
    """Find a job's task among the installed ones and build it.

    Args:
        named: The task's name and options.
        schema: The job's schema, as it stands in the document.

    Raises:
        InputError: No such task, the task cannot be imported, or its options or schema are wrong.
    """
    found = installed()
    if named.name not in found:
        raise InputError(
            f"no task {named.name!r} is installed",
            expected="one of " + ", ".join(repr(name) for name in sorted(found)),
            remedy=f"install the package that provides it (entry point group {GROUP!r})",
        )
    try:
        factory = found[named.name].load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"task {named.name!r} cannot be imported ({error})",
            remedy="reinstall the package that provides it",
        ) from error
    columns = parse(Schema, schema, "job.schema")
    try:
        task: Task = factory.from_options(named.options, columns)
    except FedwardError as error:
        raise error.at("job.task") from error
    return task
