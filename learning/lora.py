"""Low-rank adapters of a frozen language model: the only weights that are learnt and exchanged.

A frozen weight W, out x in, is used as W + alpha / r * B A with A, r x in, and B, out x r. Queries
and values of every attention get a pair. B starts at zero, so training starts from the pretrained
model, and the noise of private training is that of r (in + out) numbers instead of in times out.

Source: Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models, eq. 3 and section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.cell_values import text_of
from learning.classification import Entries
from learning.places import Places
from learning.pretrained import TOKENIZER, Pretrained, module_name, open_pretrained
from learning.schema import Column
from learning.task import Cells, FloatArray
from protocol.errors import InputError
from protocol.tensors import Layout

PACKAGES = ("transformers", "peft", "tokenizers")


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Which model is adapted, and how far.

    Args:
        name: The folder's name, see learning.pretrained.
        sha256: Its digest: `sha256sum config.json model.safetensors tokenizer.json | sha256sum`.
        rank: r.
        alpha: The adapters' share, over r.
    """

    name: str
    sha256: str
    rank: int = 8
    alpha: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= 1024:
            raise InputError("pretrained.rank", expected="1 to 1024", found=str(self.rank))
        if not 1 <= self.alpha <= 4096:
            raise InputError("pretrained.alpha", expected="1 to 4096", found=str(self.alpha))


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """A frozen model's states, their mean over word pieces, and a linear layer.

    Args:
        places: Where word pieces and other features stand.
        pretrained: The verified folder.
        rank: r.
        alpha: The adapters' share, over r.
        size: O, outputs.
    """

    places: Places
    pretrained: Pretrained
    rank: int
    alpha: int
    size: int

    @classmethod
    def of(cls, asked: Adaptation, places: Places, size: int) -> Adapters:
        """Those that a job asks for.

        Raises:
            InputError: A package or the folder is missing, or the notes are longer than it reads.
        """
        missing = [package for package in PACKAGES if find_spec(package) is None]
        if missing:
            raise InputError(
                "a pretrained model cannot be used here",
                expected=f"the packages {', '.join(missing)}",
                remedy="install them with pip install 'fedward[text]'",
            )
        pretrained = open_pretrained(asked.name, asked.sha256)
        if places.words > pretrained.places:
            raise InputError(
                "length of all texts together",
                expected=f"at most {pretrained.places} word pieces with {asked.name!r}",
                found=str(places.words),
            )
        if not pretrained.adapted:
            raise InputError(f"the pretrained model {asked.name!r} has no attention to adapt")
        return cls(
            places=places, pretrained=pretrained, rank=asked.rank, alpha=asked.alpha, size=size
        )

    @property
    def entries(self) -> Entries:
        """A and B of every adapted layer, then the linear layer."""
        found: list[tuple[str, tuple[int, ...]]] = []
        for path in self.pretrained.adapted:
            out, inputs = self.pretrained.shapes[f"{path}.weight"]
            found.append((f"adapters.{module_name(path)}.A.weight", (self.rank, inputs)))
            found.append((f"adapters.{module_name(path)}.B.weight", (out, self.rank)))
        inputs = self.pretrained.width + len(self.places.rest)
        return (
            *found, ("output.weight", (self.size, inputs)), ("output.bias", (self.size,)),
        )  # fmt: skip

    def first(self, layout: Layout, seed: int) -> Mapping[str, FloatArray]:
        """Public first weights: A uniform within 1 / sqrt(in), all else zero."""
        generator = np.random.Generator(np.random.PCG64(seed))
        arrays = {name: np.zeros(shape) for name, shape in layout.entries}
        for name, shape in layout.entries:
            if name.endswith(".A.weight"):
                # An integer root, since only + - * / are the same everywhere.
                bound = math.isqrt((1 << 40) // shape[1]) / (1 << 20)
                arrays[name] = (2.0 * generator.random(shape) - 1.0) * bound
        return arrays

    def module(self) -> Any:
        """The `torch.nn.Module`: its parameters are the adapters', the frozen model is no part."""
        from learning.lora_module import Adapted  # noqa: PLC0415 - no torch elsewhere

        return Adapted(self)

    def logits(self, arrays: Mapping[str, FloatArray], x_NF: FloatArray) -> FloatArray:
        """The output N x O in torch, one record at a time, so that none depends on another."""
        return np.asarray(self._predictor.outputs(arrays, x_NF), dtype=np.float64)

    @cached_property
    def _predictor(self) -> Any:
        return self.module()

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra

        tokenizer = Tokenizer.from_str(self.pretrained.read(TOKENIZER).decode())
        tokenizer.no_padding()
        return tokenizer

    def read(self, column: Column, cells: Cells) -> npt.NDArray[np.int64]:
        """Numbers of each text's word pieces, N x (L + 1), 0 for none.

        A last number that is not 0 says that the text was longer than L.
        """
        length = column.length or 0
        number_NL = np.zeros((len(cells), length + 1), dtype=np.int64)
        self._tokenizer.enable_truncation(length)
        for row, cell in enumerate(cells):
            text = text_of(cell)
            if text is None:
                continue
            # Half a character that a wrong decoding left behind stops no data set.
            found = self._tokenizer.encode(text.encode(errors="replace").decode())
            # The tokenizer's own marks may take more places than there are.
            kept = found.ids[:length]
            number_NL[row, : len(kept)] = 1 + np.array(kept, dtype=np.int64)
            number_NL[row, length] = bool(found.overflowing) or len(found.ids) > length
        return number_NL
