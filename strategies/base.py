"""A strategy: how the sum of a round's contributions becomes the next model.

Every hospital computes the next model itself, from the decrypted sum, and all of them must hold the
same bits afterwards. A `step` therefore uses only elementwise + - * / and square roots of float64
in a fixed order, which IEEE 754 rounds alike on every machine; it never reduces over coordinates
with a routine whose order of additions depends on threads, vector units or a library's version.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt

from learning.task import Records, Task
from privacy.conformance import Unit
from protocol.config import parse
from protocol.errors import InputError, IntegrityError
from protocol.jobs import Job, Named, Training

FloatVector = npt.NDArray[np.float64]
Contribution = Literal["gradient", "update", "statistics"]
Options = TypeVar("Options")

GROUP = "fedward.strategies"
CLEAR_PREFIX = "flwr:"
_MAGIC = b"fedward-state/1\0"
_HEADER = struct.Struct("<QQQ")


@dataclass(frozen=True)
class State:
    """What a strategy carries from round to round; it is public to the job's hospitals.

    Args:
        weights: The model, P float64 values in the task's layout.
        moments: Further vectors of length P: momentum, second moments.
        step: Steps taken so far.

    >>> state = State(np.array([1.0, 2.0]), (np.zeros(2),), 3)
    >>> State.from_bytes(state.to_bytes()).step
    3
    """

    weights: FloatVector
    moments: tuple[FloatVector, ...]
    step: int

    def __post_init__(self) -> None:
        shapes = {_shape(vector) for vector in (self.weights, *self.moments)}
        if len(shapes) != 1 or len(self.weights.shape) != 1:
            raise InputError(
                "state", expected="float64 vectors of one length", found=f"shapes {sorted(shapes)}"
            )

    def to_bytes(self) -> bytes:
        """Header, then weights and moments as little-endian float64: equal states, equal bytes."""
        return b"".join(self.parts())

    def parts(self) -> tuple[bytes | memoryview, ...]:
        """The pieces of `to_bytes`, in order; vectors are looked at in place and not copied."""
        vectors = (self.weights, *self.moments)
        header = _HEADER.pack(self.step, len(self.weights), len(vectors))
        little = (np.ascontiguousarray(vector, dtype="<f8") for vector in vectors)
        return (_MAGIC + header, *(vector.data for vector in little))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            IntegrityError: The bytes are no state, or hold a value that is not finite.
        """
        start = len(_MAGIC) + _HEADER.size
        if len(data) < start or not data.startswith(_MAGIC):
            raise IntegrityError("these bytes are no strategy's state")
        step, length, count = _HEADER.unpack_from(data, len(_MAGIC))
        # Without weights, bytes of this size could announce any number of moments.
        if min(count, length) < 1 or len(data) - start != 8 * length * count:
            raise IntegrityError(
                "a strategy's state has the wrong length",
                expected=f"{start + 8 * length * count} bytes",
                found=f"{len(data)}",
            )
        values = np.frombuffer(data, dtype="<f8", offset=start).astype(np.float64)
        if not np.isfinite(values).all():
            raise IntegrityError("a strategy's state holds a value that is not finite")
        vectors = values.reshape(count, length)
        return cls(vectors[0].copy(), tuple(row.copy() for row in vectors[1:]), step)


@dataclass(frozen=True)
class Total:
    """What the hospitals' contributions add up to.

    Args:
        sum: The decrypted sum, S float64 values.
        weight: Its public divisor. For gradients and statistics q times the declared number of
            patients, for updates the sum of the folded weights; never a count of records.
    """

    sum: FloatVector
    weight: float

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < np.inf:
            raise InputError(
                "a sum's divisor", expected="a positive number", found=f"{self.weight}"
            )


class Strategy(Protocol):
    """A pure `init`/`step` pair with what a node must know before it contributes.

    Implementations are immutable and registered as entry points in the group `fedward.strategies`.
    """

    contribution: ClassVar[Contribution]

    @classmethod
    def from_options(cls, options: Mapping[str, Any], training: Training, length: int) -> Self:
        """Build from a job's options for a model of `length` parameters.

        Raises:
            InputError: An option, or a number in `training`, does not fit the strategy.
        """

    def length(self, parameters: int) -> int:
        """Number of coordinates S of one contribution to a model of P parameters."""

    def init(self, weights: FloatVector) -> State:
        """The state before the first round."""

    def step(self, state: State, total: Total) -> State:
        """The next state; bit-identical on every machine, and `state` is left as it is."""


class Summing(Strategy, Protocol):
    """A strategy of contribution `statistics`: sums over units of vectors within a public bound."""

    def bound(self, task: Task) -> float:
        """L2 bound of one unit's vector, the job's clip.

        Raises:
            InputError: The task is none that the strategy can learn.
        """

    def sums(self, task: Task, records: Records, unit: Unit) -> FloatVector:
        """The sum of the units' vectors, S float64 values.

        Guarantee: no unit's vector is longer than `bound`, and each depends on one unit alone.

        Raises:
            InputError: The task is none that the strategy can learn.
        """


@cache
def installed() -> tuple[EntryPoint, ...]:
    """Strategies that are installed on this machine, looked up once in a process."""
    return tuple(entry_points(group=GROUP))


def load_strategy(named: Named, training: Training, length: int) -> Strategy:
    """The registered strategy that a job names, with the job's options.

    Args:
        named: Entry point's name and its options.
        training: The job's numbers.
        length: P, the model's parameters.

    Raises:
        InputError: Nothing (or more than one thing) is installed under the name, or an option is
            wrong.
    """
    if named.name.startswith(CLEAR_PREFIX):
        raise InputError(
            f"strategy {named.name!r} reads each hospital's update",
            expected="a strategy that needs only the sum",
            remedy="it runs in clear simulations alone, see docs/strategies.md",
        )
    found = {entry.value: entry for entry in installed() if entry.name == named.name}
    if len(found) != 1:
        names = ", ".join(sorted({entry.name for entry in installed()}))
        problem = "no strategy" if not found else f"{len(found)} strategies"
        raise InputError(f"{problem} named {named.name!r}", expected=f"one of {names}")
    return _load(next(iter(found.values()))).from_options(named.options, training, length)


def node_strategy(named: Named, training: Training, length: int, *, clear: bool) -> Strategy:
    """The strategy that a job's nodes step with.

    In a clear research run Flower's own strategy aggregates at the coordinator, and the nodes
    average what it chose.
    """
    if clear and named.name.startswith(CLEAR_PREFIX):
        named = Named(name="fedprox" if training.proximal > 0.0 else "fedavg", options={})
    return load_strategy(named, training, length)


def strategy_of(job: Job, length: int) -> Strategy:
    """The strategy that a resolved job's nodes step with."""
    clear = job.encryption.scheme == "none"
    return node_strategy(job.strategy, job.training, length, clear=clear)


@dataclass(frozen=True)
class NoOptions:
    """The options of a strategy that has none; whatever a job writes there is an error."""


def parse_options(cls: type[Options], options: Mapping[str, Any], name: str) -> Options:
    """A strategy's options as their frozen dataclass; unknown keys are errors with a path."""
    return parse(cls, options, f"strategy.{name}")


def summing(strategy: Strategy) -> Summing | None:
    """The strategy, if it sums statistics."""
    return cast("Summing", strategy) if strategy.contribution == "statistics" else None


def require_once(training: Training, name: str) -> None:
    """Refuse more than one round of a strategy that needs one sum.

    Raises:
        InputError: There is not just one round.
    """
    if training.rounds != 1:
        raise InputError(
            f"training.rounds with strategy {name!r}",
            expected="1: the statistics are released once",
            found=str(training.rounds),
        )


def stepped(state: State, weights: FloatVector, *moments: FloatVector) -> State:
    """The state one step later."""
    return State(weights, moments, state.step + 1)


def mean(total: Total, length: int) -> FloatVector:
    """The sum over its divisor, after a check that it has `length` coordinates.

    Raises:
        InputError: The sum belongs to another model.
    """
    return plain_sum(total, length) / total.weight


def plain_sum(total: Total, length: int) -> FloatVector:
    """The sum, after a check that it has `length` coordinates.

    Raises:
        InputError: The sum belongs to another model.
    """
    if total.sum.shape != (length,):
        raise InputError("a sum", expected=f"{length} values", found=f"shape {total.sum.shape}")
    return total.sum


def _shape(vector: FloatVector) -> tuple[int, ...]:
    if vector.dtype != np.float64:
        raise InputError("state", expected="float64", found=str(vector.dtype))
    return vector.shape


def _load(entry: EntryPoint) -> type[Strategy]:
    try:
        return cast("type[Strategy]", entry.load())
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"strategy {entry.name!r} cannot be loaded from {entry.value}", found=str(error)
        ) from error
