"""What federated models are measured against: all data in one place, and each hospital alone.

Neither is private or encrypted. A model with one optimum is trained to it, so that no number of
rounds and no learning rate decides the comparison. A network is stopped where it does best on
training patients who were kept aside for that, since it would go on to learn its records by heart.
Held-out patients decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import minimize

from client.hospital import Split
from learning.networks import set_weights
from learning.task import FloatVector, Records, Task
from learning.trainer import PlainGradient, chunk_of
from protocol.tensors import Layout

# Half of it times the squared norm of all weights but biases is added to the SUM of the losses: a
# normal prior of variance 1 on each, and the usual "C = 1" of logistic regression.
RIDGE = 1.0
MOST_STEPS = 500

# Every fifth training patient says how long a network is trained.
ASIDE = 5
# Steps without a smaller loss on them after which none is expected.
PATIENCE = 15
_ASIDE_SEED = 0


def local_only(
    task: Task, splits: Mapping[str, Split], most_steps: int = MOST_STEPS
) -> dict[str, FloatVector]:
    """Each hospital's own model, P weights by hospital."""
    return {name: _fitted(task, split.train, most_steps) for name, split in splits.items()}


def pooled(task: Task, splits: Mapping[str, Split], most_steps: int = MOST_STEPS) -> FloatVector:
    """The model of all hospitals' training records together, P weights."""
    return _fitted(task, _union([split.train for split in splits.values()]), most_steps)


def pooled_score(task: Task, weights_P: FloatVector, splits: Mapping[str, Split]) -> float:
    """The task's measure on all hospitals' held-out records.

    Raises:
        InputError: The held-out records do not determine it.
    """
    test = _union([split.test for split in splits.values()])
    return task.score(task.predict(weights_P, test.x_NF), test.y_N)


def _union(parts: Sequence[Records]) -> Records:
    """All records; two hospitals' patients are different people, whatever their numbers."""
    patients = [np.unique(part.patient_N, return_inverse=True) for part in parts]
    before = np.cumsum([0, *(len(names) for names, _ in patients)])
    return Records(
        x_NF=np.concatenate([part.x_NF for part in parts]),
        y_N=np.concatenate([part.y_N for part in parts]),
        patient_N=np.concatenate(
            [first + place_N for first, (_, place_N) in zip(before, patients, strict=False)]
        ),
    )


def _fitted(task: Task, records: Records, most_steps: int) -> FloatVector:
    """The optimum, or a network after as many steps as the patients kept aside ask for.

    Hidden units need first weights that are drawn, or they would stay alike. A model whose first
    weights are the same for every seed has none, and its loss has one optimum.
    """
    if not np.array_equal(task.initial(0), task.initial(1)):
        most_steps = _best_steps(task, records, most_steps)
    return _optimum(task, records, most_steps)


def _best_steps(task: Task, records: Records, most_steps: int) -> int:
    """Steps after which the loss of the patients kept aside was smallest; at least one."""
    patients = np.unique(records.patient_N)
    order = np.random.default_rng(_ASIDE_SEED).permutation(len(patients))
    aside_N = np.isin(records.patient_N, patients[order[::ASIDE]])
    kept, model, layout = records.take(aside_N), task.model(), task.layout()
    losses: list[float] = []

    def watch(weights_P: FloatVector) -> None:
        set_weights(model, layout, weights_P)
        losses.append(_loss(task, model, kept))
        if len(losses) - int(np.argmin(losses)) > PATIENCE:
            raise StopIteration

    _optimum(task, records.take(~aside_N), most_steps, watch)
    return 1 + int(np.argmin(losses)) if losses else 1


def _optimum(
    task: Task,
    records: Records,
    most_steps: int,
    watch: Callable[[FloatVector], None] = lambda _: None,
) -> FloatVector:
    """Minimise the sum of losses plus ridge, from the task's own initial weights.

    Limited-memory BFGS needs no learning rate, so no arm loses to a badly chosen one.

    Args:
        task: What is learnt.
        records: What from.
        most_steps: Steps after which it ends, if it found no optimum before.
        watch: Called with the weights after each step; it may raise `StopIteration`.

    Source: Byrd, Lu, Nocedal, Zhu 1995, A Limited Memory Algorithm for Bound Constrained
    Optimization, as scipy has it.
    """
    size = max(len(records), 1)
    gradient = PlainGradient(task, size)
    model: torch.nn.Module = task.model()
    layout = task.layout()
    ridge_P = RIDGE / size * _penalised(layout)

    def objective(weights_P: FloatVector) -> tuple[float, FloatVector]:
        set_weights(model, layout, weights_P)
        value = _loss(task, model, records) / size + float(ridge_P @ weights_P**2) / 2
        return value, gradient(records, weights_P, 0) + ridge_P * weights_P

    found = minimize(
        objective,
        task.initial(0),
        jac=True,
        method="L-BFGS-B",
        callback=watch,
        options={"maxiter": most_steps, "maxfun": 4 * most_steps},
    )
    return np.asarray(found.x, dtype=np.float64)


def _penalised(layout: Layout) -> FloatVector:
    """1 for weights, 0 for biases, whose size is a matter of where the features' zero lies.

    A layer named `baseline` has no features, so its weights are biases.
    """
    return layout.join(
        {
            name: np.full(shape, 0.0 if {"bias", "baseline"} & set(name.split(".")) else 1.0)
            for name, shape in layout.entries
        }
    )


def _loss(task: Task, model: torch.nn.Module, records: Records) -> float:
    x_NF, y_N = torch.from_numpy(records.x_NF), torch.from_numpy(records.y_N)
    total, chunk = 0.0, chunk_of(model, task.schema.num_features)
    with torch.no_grad():
        for start in range(0, len(records), chunk):
            here = slice(start, start + chunk)
            total += float(task.loss(model(x_NF[here]), y_N[here]).sum())
    return total
