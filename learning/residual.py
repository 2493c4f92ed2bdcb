"""A small residual network over images and series: layout, first weights and predictions.

Convolutions without bias, each followed by a group normalisation, which sees one record at a time;
batch normalisation would couple records and void the clip. A series is an image of height 1.

Source: He, Zhang, Ren, Sun 2016, Deep Residual Learning for Image Recognition, figure 5 (left) and
option B for the shortcuts; Wu, He 2018, Group Normalization, eqs. 1 to 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from learning.array_place import ArrayPlace
from learning.classification import Entries
from learning.dense import uniform
from learning.exact import product, total
from learning.task import FloatArray
from protocol.tensors import Layout

EPSILON = 1e-5
GROUPS = 4

# Values of one convolution's patches that are in memory at once: 64 MiB.
CHUNK_VALUES = 1 << 23

Frozen = Callable[[], Mapping[str, FloatArray]]
"""Reads weights that are not learnt."""


@dataclass(frozen=True)
class ResidualNetwork:
    """Stem, one residual block a further width, mean over places, and a linear output.

    Args:
        place: Where the array stands among the features; beside the channel it has height and
            width, or time.
        widths: Channels after the stem and after each block; every one halves the resolution.
        kernel: Height and width of the convolutions; odd.
        outputs: O.
        frozen: Weights of stem and blocks that are neither learnt nor exchanged; None to learn
            them.
    """

    place: ArrayPlace
    widths: tuple[int, ...]
    kernel: tuple[int, int]
    outputs: int
    frozen: Frozen | None = None

    @property
    def step(self) -> tuple[int, int]:
        """Stride of stem and blocks; a series has no height to halve."""
        return (1 if self.kernel[0] == 1 else 2, 2)

    @property
    def backbone(self) -> Entries:
        """Names and shapes of stem and blocks."""
        first, kernel = self.widths[0], self.kernel
        found = _normed("stem", (first, self.place.channels, *kernel))
        for index, (inputs, width) in enumerate(pairwise(self.widths)):
            name = f"blocks.{index}"
            found += _normed(f"{name}.first", (width, inputs, *kernel))
            found += _normed(f"{name}.second", (width, width, *kernel))
            found += ((f"{name}.shortcut.weight", (width, inputs, 1, 1)),)
        return found

    @property
    def entries(self) -> Entries:
        """Names and shapes of what is learnt."""
        inputs = 2 * self.widths[-1] + len(self.place.others)
        output = (("output.weight", (self.outputs, inputs)), ("output.bias", (self.outputs,)))
        return output if self.frozen is not None else (*self.backbone, *output)

    def first(self, layout: Layout, seed: int) -> Mapping[str, FloatArray]:
        """Public first weights; all outputs are 0 with them."""
        generator = np.random.Generator(np.random.PCG64(seed))
        arrays = {name: np.zeros(shape) for name, shape in layout.entries}
        for name, shape in layout.entries:
            if len(shape) == 4:
                arrays[name] = uniform(generator, shape, gain=6)
            elif name.endswith("norm.weight"):
                arrays[name] = np.ones(shape)
        return arrays

    def module(self) -> Any:
        """The `torch.nn.Module`, with weights zero where they are learnt."""
        from learning.array_networks import Residual  # noqa: PLC0415 - no torch elsewhere

        return Residual(self)

    def logits(self, arrays: Mapping[str, FloatArray], x_NF: FloatArray) -> FloatArray:
        """The output N x O, each row independent of the others to the last bit."""
        weights = arrays if self.frozen is None else {**arrays, **self.frozen()}
        x_NF = np.asarray(x_NF, dtype=np.float64)
        patches = 2 * math.prod(self.kernel) * max(self.widths) * math.prod(self.place.shape)
        rows = max(1, CHUNK_VALUES // patches)
        found = [np.empty((0, self.outputs))]
        for start in range(0, len(x_NF), rows):
            part_NF = x_NF[start : start + rows]
            pooled_NW = self._pooled(weights, self.images(part_NF, np.array))
            joined_NW = np.hstack([pooled_NW, self.place.rest(part_NF)])
            output_NO = product(weights["output.weight"], joined_NW[:, :, None])[:, :, 0]
            found.append(output_NO + weights["output.bias"])
        return np.concatenate(found)

    def images(self, x_NF: Any, constants: Callable[[Sequence[float]], Any]) -> Any:
        """The array part of features, N x channel x height x width; see `ArrayPlace.cut`."""
        array = self.place.cut(x_NF, constants)
        if len(self.place.shape) == 3:
            return array
        series = array if self.place.channel == 0 else array.swapaxes(1, 2)
        return series[:, :, None]

    def _pooled(self, weights: Mapping[str, FloatArray], image_NCHW: FloatArray) -> FloatArray:
        """Mean over places of the last feature maps, N x W."""
        maps = self._normed(weights, "stem", image_NCHW, self.step)
        maps = np.maximum(maps, 0.0)
        for index in range(len(self.widths) - 1):
            name = f"blocks.{index}"
            short = _convolved(maps, weights[f"{name}.shortcut.weight"], self.step)
            maps = np.maximum(self._normed(weights, f"{name}.first", maps, self.step), 0.0)
            maps = self._normed(weights, f"{name}.second", maps, (1, 1))
            maps = np.maximum(maps + short, 0.0)
        rows, width = maps.shape[:2]
        flat = maps.reshape(rows * width, -1)
        mean_NW = (total(flat) / flat.shape[1]).reshape(rows, width)
        return np.hstack([mean_NW, flat.max(axis=1).reshape(rows, width)])

    def _normed(
        self, weights: Mapping[str, FloatArray], name: str, maps: FloatArray, step: tuple[int, int]
    ) -> FloatArray:
        """A convolution and its group normalisation."""
        out = _convolved(maps, weights[f"{name}.weight"], step)
        rows, width = out.shape[:2]
        flat = out.reshape(rows * groups_of(width), -1)
        flat = flat - (total(flat) / flat.shape[1])[:, None]
        variance = total(flat**2) / flat.shape[1]
        out = (flat / np.sqrt(variance + EPSILON)[:, None]).reshape(out.shape)
        gain, bias = weights[f"{name}_norm.weight"], weights[f"{name}_norm.bias"]
        normed: FloatArray = out * gain[:, None, None] + bias[:, None, None]
        return normed


def groups_of(width: int) -> int:
    """Groups of a normalisation over so many channels."""
    return math.gcd(width, GROUPS)


def _normed(name: str, shape: tuple[int, ...]) -> Entries:
    width = (shape[0],)
    norm = ((f"{name}_norm.weight", width), (f"{name}_norm.bias", width))
    return ((f"{name}.weight", shape), *norm)


def _convolved(maps: FloatArray, weight: FloatArray, step: tuple[int, int]) -> FloatArray:
    """A convolution whose padding keeps the size, N x O x H x W."""
    outputs, inputs, high, wide = weight.shape
    padding = ((0, 0), (0, 0), (high // 2, high // 2), (wide // 2, wide // 2))
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(maps, padding), (high, wide), axis=(2, 3)
    )[:, :, :: step[0], :: step[1]]
    rows, _, height, width = windows.shape[:4]
    patches = windows.transpose(0, 1, 4, 5, 2, 3).reshape(rows, inputs * high * wide, -1)
    return product(weight.reshape(outputs, -1), patches).reshape(rows, outputs, height, width)
