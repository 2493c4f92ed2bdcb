"""A finished model as one function in torch, from features to predictions.

Tasks predict in numpy, where a row has the same bits alone and in a batch. Exports need a graph and
explanations a slope, so what `predict` does after the network stands here once more, in operations
that ONNX has; `whole` compares both before anybody uses it.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.artefact import Model
from learning.demand import Demand
from learning.invented import invent
from learning.networks import set_weights
from learning.survival import Survival
from learning.task import FloatArray, IntVector, Task
from learning.treatment import Treatment
from learning.treatment_evaluation import recommended
from protocol.errors import InputError, IntegrityError

_CLOSE = 1e-9
_ROWS = 16


@singledispatch
def readout(task: Task, output_BO: Tensor, x_BF: Tensor) -> Tensor:  # noqa: ARG001 - for others
    """Predictions B x C as `task.predict` makes them of the network's output.

    Unless another function is registered for the task's class, the label's classes, or several
    labels of two classes each, are what is predicted.

    Args:
        task: The task.
        output_BO: What `task.model()` says.
        x_BF: The features.

    Raises:
        InputError: The task predicts something else and has registered nothing.
    """
    schema = task.schema
    if schema.label.classes and {column.kind for column in schema.targets} == {"flag"}:
        return torch.sigmoid(output_BO)
    if schema.label.classes and not schema.targets:
        if output_BO.shape[1] == 1:
            return torch.sigmoid(torch.cat([-output_BO, output_BO], dim=1))
        return torch.softmax(output_BO, dim=1)
    raise InputError(
        f"task {type(task).__name__} does not say in torch how it predicts",
        remedy="register a function with learning.readouts.readout",
    )


@readout.register
def _survival(task: Survival, output_BO: Tensor, x_BF: Tensor) -> Tensor:  # noqa: ARG001
    """A product of chances as the exponential of a sum: log sigmoid(-z) = -softplus(z)."""
    return torch.exp(-torch.cumsum(functional.softplus(output_BO), dim=1))


@readout.register
def _treatment(task: Treatment, output_BO: Tensor, x_BF: Tensor) -> Tensor:  # noqa: ARG001
    arms = len(task.arms)
    outcome_BA = torch.sigmoid(output_BO[:, :arms])
    if task.known_A is None:
        given_BA = torch.softmax(output_BO[:, arms:], dim=1)
    else:
        known_A = torch.tensor(task.known_A.tolist(), dtype=output_BO.dtype)
        given_BA = torch.zeros_like(outcome_BA) + known_A
    return torch.cat([outcome_BA, given_BA], dim=1)


@readout.register
def _demand(task: Demand, output_BO: Tensor, x_BF: Tensor) -> Tensor:
    blocks = [torch.sort(output_BO, dim=1).values]
    if task.anchor is not None:
        place, width, middle = task.anchor
        blocks.append(x_BF[:, place : place + 1] * width + middle)
    return (torch.cat(blocks, dim=1) * task.scale).clamp(*task.bounds)


@singledispatch
def answer(task: Task, predicted_NC: FloatArray) -> IntVector:
    """Which of the C columns is the answer to each row, (N,): the one that is explained.

    Of two classes the second, of more classes or labels the likeliest, unless another function is
    registered for the task's class.
    """
    if predicted_NC.shape[1] == 2 and not task.schema.targets:
        return np.ones(len(predicted_NC), dtype=np.int64)
    likeliest_N: IntVector = predicted_NC.argmax(axis=1).astype(np.int64)
    return likeliest_N


@answer.register
def _longest(task: Survival, predicted_NC: FloatArray) -> IntVector:
    """Survival at the end of the last interval."""
    return np.full(len(predicted_NC), len(task.cuts) - 1, dtype=np.int64)


@answer.register
def _best(task: Treatment, predicted_NC: FloatArray) -> IntVector:
    """The outcome under the treatment that is recommended."""
    return recommended(predicted_NC, len(task.arms))


@answer.register
def _median(task: Demand, predicted_NC: FloatArray) -> IntVector:
    """The quantile nearest to the median."""
    distances = [abs(level - 0.5) for level in task.options.quantiles]
    return np.full(len(predicted_NC), distances.index(min(distances)), dtype=np.int64)


def scale_of(task: Task) -> float:
    """What a difference between predictions is compared with: 1, or the width of a label's bounds.

    Raises:
        InputError: The label has neither classes nor bounds.
    """
    label = task.schema.label
    if label.classes:
        return 1.0
    if label.low is None or label.high is None:
        raise InputError("a label", expected="classes, or low and high")
    return float(label.high - label.low)


class Whole(nn.Module):
    """Features to predictions, in double precision.

    Args:
        model: The finished model.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.task.model()
        set_weights(self.network, model.task.layout(), model.weights_P)
        self.requires_grad_(requires_grad=False)
        self.eval()
        self._task = model.task

    def forward(self, x_BF: Tensor) -> Tensor:
        """Predictions B x C."""
        return readout(self._task, self.network(x_BF), x_BF)


def whole(model: Model) -> Whole:
    """A finished model as one function, after it has agreed with the model's own predictions.

    Raises:
        InputError: The task has no function in torch.
        IntegrityError: It has another one than it predicts with.
    """
    made = Whole(model)
    x_NF = invent(model.task.schema, _ROWS, np.random.Generator(np.random.PCG64(0)))
    with torch.no_grad():
        found_NC = made(torch.from_numpy(x_NF)).numpy()
    own_NC = model.predict(x_NF)
    if found_NC.shape != own_NC.shape or not np.allclose(
        found_NC, own_NC, rtol=0, atol=_CLOSE * scale_of(model.task)
    ):
        raise IntegrityError(
            f"model {model.card.label} predicts something else in torch",
            remedy="register what the task predicts with learning.readouts.readout",
        )
    return made
