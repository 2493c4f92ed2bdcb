"""What federated models are measured against: all data in one place, and each hospital alone.

Neither is private or encrypted. Both are trained to the optimum, so that no number of rounds and no
learning rate decides the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def local_only(
    task: Task, splits: Mapping[str, Split], most_steps: int = MOST_STEPS
) -> dict[str, FloatVector]:
    """Each hospital's own optimum, P weights by hospital."""
    return {name: _optimum(task, split.train, most_steps) for name, split in splits.items()}


def pooled(task: Task, splits: Mapping[str, Split], most_steps: int = MOST_STEPS) -> FloatVector:
    """The optimum of all hospitals' training records together, P weights."""
    return _optimum(task, _union([split.train for split in splits.values()]), most_steps)


def pooled_score(task: Task, weights_P: FloatVector, splits: Mapping[str, Split]) -> float:
    """The task's measure on all hospitals' held-out records.

    Raises:
        InputError: The held-out records do not determine it.
    """
    test = _union([split.test for split in splits.values()])
    return task.score(task.predict(weights_P, test.x_NF), test.y_N)


def _union(parts: Sequence[Records]) -> Records:
    """All records; whose each one is plays no part here, so each is its own patient's."""
    y_N = np.concatenate([part.y_N for part in parts])
    x_NF = np.concatenate([part.x_NF for part in parts])
    return Records(x_NF=x_NF, y_N=y_N, patient_N=np.arange(len(y_N), dtype=np.int64))


def _optimum(task: Task, records: Records, most_steps: int) -> FloatVector:
    """Minimise the sum of losses plus ridge, from the task's own initial weights.

    Limited-memory BFGS needs no learning rate, so no arm loses to a badly chosen one.

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
