"""Whether a job may run here: a pure function of job, trust, policy, columns, budget and time.

The answer depends on declared columns, policy and budget, never on records, because the answer
itself leaves the hospital. On the wire the first reason counts (`admit`); an administrator who
asks beforehand gets all of them (`consider`). A node asks for the budget last, in the transaction
of `privacy.ledger` that reserves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from client.agreement import check_encryption, check_releases
from client.questions import Situation, asked_of_columns, asked_of_origin, asked_of_policy
from learning.pooled_statistics import Statistics
from learning.task import Task, load_task
from privacy.plan import check_plan
from protocol.errors import Code, FedwardError, RefusalError
from protocol.jobs import Job
from protocol.tensors import weights_digest
from strategies.base import Strategy, strategy_of

__all__ = ["Admitted", "Answer", "Situation", "admit", "consider"]

_BEFORE_THE_MODEL = (asked_of_origin, asked_of_policy, asked_of_columns)


@dataclass(frozen=True)
class Admitted:
    """A job that may run, with what it names made from installed code.

    Args:
        job: The verified job.
        task: The task it names.
        strategy: The strategy that this node steps with.
    """

    job: Job
    task: Task
    strategy: Strategy


@dataclass(frozen=True)
class Answer:
    """What a node would say to a job, and every reason against it.

    Args:
        admitted: What the job names, None where the model could not be built.
        reasons: All that speaks against it, in the order in which a node asks.
    """

    admitted: Admitted | None
    reasons: tuple[RefusalError, ...]


def admit(job: Job, situation: Situation) -> Admitted:
    """Decide on a job whose signature has been verified.

    Raises:
        RefusalError: The first reason, with the code that may leave the hospital.
    """
    for reason in chain.from_iterable(ask(job, situation) for ask in _BEFORE_THE_MODEL):
        raise reason
    admitted = _build(job, situation)
    for reason in chain(
        _asked_of_cells(admitted, situation),
        _asked_of_numbers(admitted),
        _asked_of_declarations(job, situation),
    ):
        raise reason
    return admitted


def consider(job: Job, situation: Situation) -> Answer:
    """The same decision with every reason that can be found."""
    reasons = [reason for ask in _BEFORE_THE_MODEL for reason in ask(job, situation)]
    admitted = None
    try:
        admitted = _build(job, situation)
    except RefusalError as reason:
        reasons.append(reason)
    else:
        reasons += _asked_of_cells(admitted, situation)
        reasons += _asked_of_numbers(admitted)
    reasons += _asked_of_declarations(job, situation)
    return Answer(admitted, tuple(reasons))


def _build(job: Job, situation: Situation) -> Admitted:
    """Task, strategy and initial weights, made here and compared with what the job states."""
    try:
        task = load_task(job.task, job.schema)
        layout = task.layout()
        strategy = strategy_of(job, layout.size)
    except FedwardError as error:
        raise RefusalError(Code.TASK, str(error)) from error
    most = situation.policy.max_parameters
    if layout.size > most:
        raise RefusalError(
            Code.POLICY, "model size", expected=f"<= {most} parameters", found=str(layout.size)
        )
    weights = strategy.init(task.initial(job.training.seed)).weights
    if layout.digest != job.layout or weights_digest(weights) != job.initial_weights:
        raise RefusalError(
            Code.VERSION,
            "this installation builds another model than the job states",
            remedy="install the same release of fedward as the coordinator",
        )
    return Admitted(job, task, strategy)


def _asked_of_cells(admitted: Admitted, situation: Situation) -> Iterator[RefusalError]:
    """Hold what a table would show against the smallest cell that the policy allows."""
    task, least = admitted.task, situation.policy.min_cell
    if isinstance(task, Statistics) and task.options.fewer_than < least:
        yield RefusalError(
            Code.CELLS,
            "the table would show smaller cells than this hospital allows",
            expected=f"task.options.fewer_than of at least {least}",
            found=str(task.options.fewer_than),
            remedy="ask for a job with a larger one, or lower policy.min_cell in hospital.yaml",
        )


def _asked_of_numbers(admitted: Admitted) -> Iterator[RefusalError]:
    job, task, strategy = admitted.job, admitted.task, admitted.strategy
    checks: tuple[Callable[[], None], ...] = (
        lambda: check_plan(job.privacy, job.sites),
        lambda: check_releases(job, task, strategy),
        lambda: check_encryption(job, strategy),
    )
    for check in checks:
        try:
            check()
        except RefusalError as reason:
            yield reason
        except FedwardError as error:
            yield RefusalError(Code.POLICY, str(error))


def _asked_of_declarations(job: Job, situation: Situation) -> Iterator[RefusalError]:
    """Hold the job against what this hospital says of its own data set."""
    sites = [site for site in job.sites if site.name == situation.name]
    for site in sites:
        for name in ("train_size", "test_size"):
            declared, stated = getattr(situation, name), getattr(site, name)
            if declared not in (None, stated):
                yield RefusalError(
                    Code.POLICY, f"declared {name}", expected=str(declared), found=str(stated)
                )
    # A patient with many records would be protected as if each were another person.
    patient = situation.patient
    if patient is not None and job.schema.get("patient") != patient:
        yield RefusalError(
            Code.POLICY,
            "the data set names its patients and the job protects somebody else",
            expected=f"a schema whose patient column is {patient!r}",
        )
