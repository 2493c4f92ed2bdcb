"""Notes as bags of n-grams: a score for each bucket of a hash, or a vector and a layer after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from learning.classification import Entries
from learning.forward import dense
from learning.places import Places
from learning.task import FloatArray
from protocol.tensors import Layout

# Rows at a time, so that the running sums stay in the processor's cache.
_CHUNK = 512

NORM = 4.0
"""Length of a note whose n-grams differ, as of a record of sixteen standardised numbers."""


@dataclass(frozen=True, kw_only=True)
class Bag:
    """The sum of its n-grams' rows over the root of their number, and the other features.

    Without a width each row of the table holds the O scores themselves: logistic regression on
    hashed n-grams. The root gives every note about the same length, so that long ones are not
    clipped more than short ones.

    Source: Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning, without the
    sign; Joulin et al. 2017, Bag of Tricks for Efficient Text Classification, for the vectors.

    Args:
        places: Where words and other features stand.
        buckets: V, rows of the table.
        ngrams: Words in the longest run.
        width: D, numbers in a row; 0 for none.
        size: O, outputs.
    """

    places: Places
    buckets: int
    ngrams: int
    width: int
    size: int

    @property
    def entries(self) -> Entries:
        """Names and shapes of what is learnt."""
        rest = len(self.places.rest)
        if self.width:
            return (
                ("words.weight", (self.buckets, self.width)),
                ("output.weight", (self.size, self.width + rest)),
                ("output.bias", (self.size,)),
            )
        others = (("rest.weight", (self.size, rest)),) if rest else ()
        baseline = ("baseline.weight", (self.size, 1))
        return (("words.weight", (self.buckets, self.size)), *others, baseline)

    def first(self, layout: Layout, seed: int) -> Mapping[str, FloatArray]:
        """Public first weights: vectors uniform within 1, all else zero, so that outputs are 0."""
        arrays = {name: np.zeros(shape) for name, shape in layout.entries}
        if self.width:
            generator = np.random.Generator(np.random.PCG64(seed))
            shape = arrays["words.weight"].shape
            arrays["words.weight"] = 2.0 * generator.random(shape) - 1.0
        return arrays

    def module(self) -> Any:
        """The `torch.nn.Module`, with zero weights."""
        from learning.text_modules import BagModule  # noqa: PLC0415 - no torch elsewhere

        return BagModule(self)

    def logits(self, arrays: Mapping[str, FloatArray], x_NF: FloatArray) -> FloatArray:
        """The output N x O, each row independent of the others to the last bit."""
        parts = [
            self._logits(arrays, x_NF[start : start + _CHUNK])
            for start in range(0, len(x_NF), _CHUNK)
        ]
        return np.concatenate([np.empty((0, self.size)), *parts])

    def _logits(self, arrays: Mapping[str, FloatArray], x_BF: FloatArray) -> FloatArray:
        bag_BD, rest_BR = self._bag(arrays["words.weight"], x_BF), x_BF[:, list(self.places.rest)]
        if self.width:
            all_BF = np.hstack([bag_BD, rest_BR])
            return dense(all_BF, arrays["output.weight"], arrays["output.bias"])
        none_OR = np.empty((self.size, 0))
        baseline_O = arrays["baseline.weight"][:, 0]
        return bag_BD + dense(rest_BR, arrays.get("rest.weight", none_OR), baseline_O)

    def _bag(self, table_VD: FloatArray, x_BF: FloatArray) -> FloatArray:
        """Sums of rows, one n-gram of every note after the other."""
        sum_BD = np.zeros((len(x_BF), table_VD.shape[1]))
        count_B1 = np.zeros((len(x_BF), 1))
        for number_BG, known_BG in self.places.runs(x_BF.astype(np.int64), self.ngrams):
            for number_B, known_B in zip((number_BG % self.buckets).T, known_BG.T, strict=True):
                sum_BD += table_VD[number_B] * known_B[:, None]
            count_B1 += known_BG.sum(axis=1, keepdims=True)
        return sum_BD * (NORM / np.sqrt(np.maximum(count_B1, 1.0)))
