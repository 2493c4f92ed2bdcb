"""Records found by search: the picture whose gradient is the one that was read.

Where no layer shows its input, an attacker who knows the weights tries pictures until their
gradient points where the update does. The class is read first, off the sign of the last bias.

Source: Geiping et al. 2020, Inverting Gradients, equation 4 (cosine distance and total variation);
Zhu, Liu, Han 2019, Deep Leakage from Gradients (L-BFGS); Zhao et al. 2020, iDLG, section 3 (class).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learning.networks import set_weights
from learning.task import Task
from simulations.attack_records import PIXELS, SIDE, plausible
from strategies.base import FloatVector

FloatArray = npt.NDArray[np.float64]

SMOOTHNESS = 1e-5
"""Weight of total variation beside a cosine distance between 0 and 2."""
_CLOSE = 1e-9
_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Search:
    """How long one picture is searched for.

    Args:
        iterations: Steps of L-BFGS.
        restarts: Searches from different beginnings; the best match is kept.
        seed: Of the beginnings.
    """

    iterations: int
    restarts: int
    seed: int


def match(
    task: Task, weights_P: FloatVector, gradients: Sequence[FloatVector], search: Search
) -> FloatArray:
    """The best matching picture of each reading of an update of one record: M x F.

    Args:
        task: A task of pictures and two classes.
        weights_P: The weights that the update started from. Whoever sees ciphertext only does not
            have them after the first round; here it is given them.
        gradients: Readings of the update.
        search: How long to search.
    """
    model = task.model()
    set_weights(model, task.layout(), weights_P)
    rng = np.random.Generator(np.random.PCG64(search.seed))
    found = []
    for gradient_P in gradients:
        tries = [
            _search(task, model, gradient_P, rng, search.iterations) for _ in range(search.restarts)
        ]
        found.append(min(tries, key=lambda one: one[0])[1])
    return plausible(np.array(found))


def label_of(task: Task, gradient_P: FloatVector) -> int:
    """The class of one record: the last bias' gradient is p - y, of the sign of 1/2 - y."""
    bias = task.layout().split(gradient_P)["output.bias"]
    return int(bias[0] < 0)


def _search(
    task: Task, model: Any, gradient_P: FloatVector, rng: np.random.Generator, iterations: int
) -> tuple[float, FloatVector]:
    wanted_P = torch.tensor(gradient_P / max(float(np.linalg.norm(gradient_P)), 1e-300))
    label_B = torch.tensor([label_of(task, gradient_P)])
    picture_BF = torch.tensor(0.3 * rng.normal(size=(1, PIXELS)), requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [picture_BF], max_iter=_STEPS, history_size=50, line_search_fn="strong_wolfe"
    )

    def distance() -> Tensor:
        loss_B = task.loss(model(picture_BF), label_B)
        parts = torch.autograd.grad(loss_B.sum(), list(model.parameters()), create_graph=True)
        made_P = torch.cat([part.reshape(-1) for part in parts])
        cosine: Tensor = wanted_P @ made_P / made_P.norm().clamp_min(1e-30)
        return 1 - cosine + SMOOTHNESS * _variation(picture_BF)

    def closure() -> float:
        optimiser.zero_grad()
        value = distance()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    value = np.inf
    for _ in range(-(-iterations // _STEPS)):
        before, value = value, float(optimiser.step(closure))  # type: ignore[no-untyped-call]
        if not value < before * (1 - 1e-4) or value < _CLOSE:
            break
    return float(distance().detach()), picture_BF.detach().numpy()[0]


def _variation(picture_BF: Tensor) -> Tensor:
    """Mean difference between neighbouring pixels, smooth at zero."""
    picture = picture_BF.reshape(-1, SIDE, SIDE)
    steps = (picture.diff(dim=1), picture.diff(dim=2))
    return torch.stack([(step.square() + 1e-6).sqrt().mean() for step in steps]).sum()
