"""A gated recurrent unit over frames of a series: layout, first weights and predictions.

Source: Cho et al. 2014, Learning Phrase Representations using RNN Encoder-Decoder for Statistical
Machine Translation, eqs. 5 to 8, with the reset gate after the product as in PyTorch's GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from learning.array_place import ArrayPlace
from learning.classification import Entries
from learning.dense import uniform
from learning.exact import product
from learning.forward import sigmoid
from learning.task import FloatArray
from protocol.tensors import Layout

CHUNK = 1024


@dataclass(frozen=True)
class RecurrentNetwork:
    """One gated unit, the mean of its states over time, and a linear output.

    Args:
        place: Where the series, time x channel, stands among the features.
        frame: Samples that are read together; what is left at the end is not read.
        width: H, size of the state.
        outputs: O.
    """

    place: ArrayPlace
    frame: int
    width: int
    outputs: int

    @property
    def steps(self) -> int:
        """How many frames a series has."""
        return self.place.shape[0] // self.frame

    @property
    def entries(self) -> Entries:
        """Names and shapes of what is learnt; gates in the order reset, update, new."""
        gates, inputs = 3 * self.width, self.frame * self.place.channels
        return (
            ("inputs.weight", (gates, inputs)),
            ("inputs.bias", (gates,)),
            ("recurrent.weight", (gates, self.width)),
            ("recurrent.bias", (gates,)),
            ("output.weight", (self.outputs, self.width + len(self.place.others))),
            ("output.bias", (self.outputs,)),
        )

    def first(self, layout: Layout, seed: int) -> Mapping[str, FloatArray]:
        """Public first weights; all outputs are 0 with them."""
        generator = np.random.Generator(np.random.PCG64(seed))
        arrays = {name: np.zeros(shape) for name, shape in layout.entries}
        for name in ("inputs.weight", "recurrent.weight"):
            arrays[name] = uniform(generator, arrays[name].shape, gain=3)
        return arrays

    def module(self) -> Any:
        """The `torch.nn.Module`, with zero weights."""
        from learning.array_networks import Recurrent  # noqa: PLC0415 - no torch elsewhere

        return Recurrent(self)

    def frames(self, x_NF: Any, constants: Callable[[Sequence[float]], Any]) -> Any:
        """The series part of features, N x step x (frame * channel); see `ArrayPlace.cut`."""
        used = self.place.cut(x_NF, constants)[:, : self.steps * self.frame]
        return used.reshape(x_NF.shape[0], self.steps, self.frame * self.place.channels)

    def logits(self, arrays: Mapping[str, FloatArray], x_NF: FloatArray) -> FloatArray:
        """The output N x O, each row independent of the others to the last bit."""
        x_NF = np.asarray(x_NF, dtype=np.float64)
        found = [np.empty((0, self.outputs))]
        for start in range(0, len(x_NF), CHUNK):
            part_NF = x_NF[start : start + CHUNK]
            state_NH = self._mean_state(arrays, self.frames(part_NF, np.array))
            joined_NW = np.hstack([state_NH, self.place.rest(part_NF)])
            output_NO = product(arrays["output.weight"], joined_NW[:, :, None])[:, :, 0]
            found.append(output_NO + arrays["output.bias"])
        return np.concatenate(found)

    def _mean_state(self, arrays: Mapping[str, FloatArray], frame_NSI: FloatArray) -> FloatArray:
        size = self.width
        given_NGS = product(arrays["inputs.weight"], frame_NSI.swapaxes(1, 2))
        given_NGS = given_NGS + arrays["inputs.bias"][:, None]
        state_NH = np.zeros((len(frame_NSI), size))
        sum_NH = np.zeros_like(state_NH)
        for step in range(self.steps):
            given_NG = given_NGS[:, :, step]
            own_NG = product(arrays["recurrent.weight"], state_NH[:, :, None])[:, :, 0]
            own_NG = own_NG + arrays["recurrent.bias"]
            gates = sigmoid(np.ascontiguousarray(given_NG[:, : 2 * size] + own_NG[:, : 2 * size]))
            reset_NH, update_NH = gates[:, :size], gates[:, size:]
            new_NH = given_NG[:, 2 * size :] + reset_NH * own_NG[:, 2 * size :]
            new_NH = 2.0 * sigmoid(2.0 * new_NH) - 1.0  # the hyperbolic tangent
            state_NH = (1.0 - update_NH) * new_NH + update_NH * state_NH
            sum_NH = sum_NH + state_NH
        return sum_NH / max(self.steps, 1)
