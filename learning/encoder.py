"""A small transformer over hashed words: in numpy to predict; `learning.text_modules` learns it.

Source: Vaswani et al. 2017, Attention Is All You Need, sections 3.1 to 3.5; Xiong et al. 2020, On
Layer Normalization in the Transformer Architecture, for the normalisation before each part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from learning.classification import Entries
from learning.forward import dense
from learning.places import Places
from learning.task import FloatArray
from protocol.errors import InputError
from protocol.tensors import Layout

# Rows at a time, and scores of pairs of words: some copies of 32 MiB.
_CHUNK, _CHUNK_SCORES = 32, 1 << 22

MOST_SCORES = 1 << 23
"""Scores of pairs of words that one record may have: a quarter of a gibibyte in private training,
which holds as many records at once as take one (`privacy.engine.ACTIVATIONS`)."""

_TINY = 1e-5  # added to a variance; torch's default for nn.LayerNorm


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Words' rows and places, blocks of self-attention, the mean over words, a linear layer.

    A first place stands in every record, so that one without words has a state, too.

    Args:
        places: Where words and other features stand.
        buckets: V, rows of the table; the first is the start's.
        width: D, numbers in a row.
        layers: Blocks.
        heads: H, of D / H numbers each.
        size: O, outputs.

    Raises:
        InputError: There are so many pairs of words that a node's memory would not hold them.
    """

    places: Places
    buckets: int
    width: int
    layers: int
    heads: int
    size: int

    def __post_init__(self) -> None:
        most = math.isqrt(MOST_SCORES // (self.layers * self.heads))
        if self.places.words > most:
            raise InputError(
                "length of all texts together",
                expected=f"at most {most} words with {self.layers} x {self.heads} heads",
                found=str(self.places.words),
                remedy="cut notes shorter, or use model 'linear' or 'bag'",
            )

    @property
    def entries(self) -> Entries:
        """Names and shapes of what is learnt."""
        width = self.width
        found: list[tuple[str, tuple[int, ...]]] = [("words.weight", (self.buckets, width))]
        for block in range(self.layers):
            found += [(f"blocks.{block}.{name}", shape) for name, shape in _block(width)]
        return (
            *found,
            *_pair("last", (width,)),
            *_pair("output", (self.size, width + len(self.places.rest))),
        )

    def first(self, layout: Layout, seed: int) -> Mapping[str, FloatArray]:
        """Public first weights: uniform and of even variance; all outputs are 0 with them."""
        generator = np.random.Generator(np.random.PCG64(seed))
        arrays = {name: np.zeros(shape) for name, shape in layout.entries}
        for name, shape in layout.entries:
            layer = name.split(".")[-2]
            if layer in _NORMS and name.endswith(".weight"):
                arrays[name] = np.ones(shape)
            elif layer != "output" and len(shape) == 2:
                # An integer root, since only + - * / are the same everywhere.
                bound = 1.0 if layer == "words" else math.isqrt((3 << 40) // shape[1]) / (1 << 20)
                arrays[name] = (2.0 * generator.random(shape) - 1.0) * bound
        return arrays

    def module(self) -> Any:
        """The `torch.nn.Module`, with zero weights."""
        from learning.text_modules import EncoderModule  # noqa: PLC0415 - no torch elsewhere

        return EncoderModule(self)

    def read(self, word_NF: Any) -> tuple[list[Any], list[Any]]:
        """Rows of the table that each text's words stand for, and which of them are words."""
        runs = self.places.runs(word_NF, 1)
        return [1 + number % (self.buckets - 1) for number, _ in runs], [known for _, known in runs]

    @cached_property
    def positions(self) -> FloatArray:
        """Sines and cosines of every place, (1 + L) x D (Vaswani et al., section 3.5)."""
        place_T1 = np.arange(1.0 + self.places.words)[:, None]
        angle_TD = place_T1 / 10_000.0 ** (np.arange(self.width) // 2 * 2 / self.width)
        return np.where(np.arange(self.width) % 2 == 0, np.sin(angle_TD), np.cos(angle_TD))

    def logits(self, arrays: Mapping[str, FloatArray], x_NF: FloatArray) -> FloatArray:
        """The output N x O, each row independent of the others to the last bit."""
        scores = self.heads * (1 + self.places.words) ** 2
        rows = max(1, min(_CHUNK, _CHUNK_SCORES // scores))
        parts = [
            self._logits(arrays, x_NF[start : start + rows]) for start in range(0, len(x_NF), rows)
        ]
        return np.concatenate([np.empty((0, self.size)), *parts])

    def _logits(self, arrays: Mapping[str, FloatArray], x_BF: FloatArray) -> FloatArray:
        numbers, known = self.read(x_BF.astype(np.int64))
        start_B1 = np.zeros((len(x_BF), 1), dtype=np.int64)
        known_BT = np.hstack([start_B1 == 0, *known])
        state_BTD = arrays["words.weight"][np.hstack([start_B1, *numbers])] + self.positions
        for block in range(self.layers):
            layers = _Layers(arrays, f"blocks.{block}.")
            state_BTD = state_BTD + self._attended(layers, state_BTD, known_BT)
            wide_BTH = np.maximum(layers.apply("wide", layers.normed("between", state_BTD)), 0.0)
            state_BTD = state_BTD + layers.apply("narrow", wide_BTH)
        last_BTD = _Layers(arrays, "").normed("last", state_BTD) * known_BT[:, :, None]
        mean_BD = _added(last_BTD, 1) / known_BT.sum(axis=1, keepdims=True)
        all_BF = np.hstack([mean_BD, x_BF[:, list(self.places.rest)]])
        return dense(all_BF, arrays["output.weight"], arrays["output.bias"])

    def _attended(
        self, layers: _Layers, state_BTD: FloatArray, known_BT: np.ndarray[Any, np.dtype[np.bool_]]
    ) -> FloatArray:
        """What every word gathers from the others of its record, B x T x D."""
        y_BTD = layers.normed("before", state_BTD)
        query, key, value = (
            layers.apply(name, y_BTD).reshape(
                *y_BTD.shape[:2], self.heads, self.width // self.heads
            )
            for name in ("query", "key", "value")
        )
        score_BHTT = np.zeros((len(query), self.heads, query.shape[1], query.shape[1]))
        for place in range(query.shape[3]):
            one, other = query[..., place].swapaxes(1, 2), key[..., place].swapaxes(1, 2)
            score_BHTT += one[..., :, None] * other[..., None, :]
        score_BHTT = np.where(known_BT[:, None, None, :], score_BHTT, -np.inf)
        score_BHTT /= math.sqrt(query.shape[3])
        power_BHTT = np.exp(score_BHTT - score_BHTT.max(axis=3, keepdims=True))
        share_BHTT = power_BHTT / _added(power_BHTT, 3)[..., None]
        seen_BTHK = np.zeros_like(query)
        for place in range(query.shape[1]):
            share_BTH = share_BHTT[..., place].swapaxes(1, 2)
            seen_BTHK += share_BTH[..., None] * value[:, place, None]
        return layers.apply("merge", seen_BTHK.reshape(y_BTD.shape))


_NORMS = frozenset({"before", "between", "last"})


def _pair(name: str, shape: tuple[int, ...]) -> Entries:
    return ((f"{name}.weight", shape), (f"{name}.bias", shape[:1]))


def _block(width: int) -> Entries:
    """Names and shapes of `learning.text_modules.Block`."""
    square = (width, width)
    shapes = {
        "before": (width,), "query": square, "key": square, "value": square, "merge": square,
        "between": (width,), "wide": (2 * width, width), "narrow": (width, 2 * width),
    }  # fmt: skip
    return tuple(entry for name, shape in shapes.items() for entry in _pair(name, shape))


@dataclass(frozen=True)
class _Layers:
    """Layers of one block, by name, in an order of operations that no other row can change."""

    arrays: Mapping[str, FloatArray]
    prefix: str

    def apply(self, name: str, x_BTF: FloatArray) -> FloatArray:
        """A linear layer, feature by feature."""
        weight_OF, bias_O = self._of(name)
        flat_MO = dense(x_BTF.reshape(-1, x_BTF.shape[2]), weight_OF, bias_O)
        return flat_MO.reshape(*x_BTF.shape[:2], len(bias_O))

    def normed(self, name: str, x_BTD: FloatArray) -> FloatArray:
        """Layer normalisation (Ba, Kiros, Hinton 2016, eq. 4)."""
        weight_D, bias_D = self._of(name)
        centred_BTD = x_BTD - (_added(x_BTD, 2) / x_BTD.shape[2])[..., None]
        variance_BT = _added(centred_BTD**2, 2) / x_BTD.shape[2]
        scaled_BTD: FloatArray = centred_BTD / np.sqrt(variance_BT + _TINY)[..., None]
        return scaled_BTD * weight_D + bias_D

    def _of(self, name: str) -> tuple[FloatArray, FloatArray]:
        return self.arrays[f"{self.prefix}{name}.weight"], self.arrays[f"{self.prefix}{name}.bias"]


def _added(x: FloatArray, axis: int) -> FloatArray:
    """The sum along an axis, one entry after the other."""
    total = np.zeros([size for place, size in enumerate(x.shape) if place != axis])
    for part in np.moveaxis(x, axis, 0):
        total += part
    return total
