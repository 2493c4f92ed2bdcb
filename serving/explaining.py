"""Explanations beside predictions: outputs that a request gets only if it names them.

They cost hundreds of predictions each, so a model's configuration must allow them, and one thread
makes them for all, while predictions go on in the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from learning.artefact import Model
from learning.schema import Schema
from learning.task import FloatArray
from serving.payloads import Tensor
from serving.refusal import Kind, Refusal

if TYPE_CHECKING:
    from learning.explanation import Explanation

EXPLANATION, EXPLAINED = "explanation", "explained"
START, GAP = "explanation_start", "explanation_gap"
MOST_ROWS = 64
_one = ThreadPoolExecutor(1, thread_name_prefix="explaining")


def explanation_outputs(schema: Schema) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, datatype and shape of each output; -1 stands for the number of rows."""
    kinds = {column.kind for column in schema.columns}
    maps = [
        (map_of(column.name), "FP64", (-1, *column.shape))
        for column in schema.columns
        if column.kind == "array" and "text" not in kinds
    ]
    return [
        (EXPLANATION, "FP64", (-1, len(schema.columns))),
        (EXPLAINED, "INT64", (-1,)),
        (START, "FP64", (-1,)),
        (GAP, "FP64", (-1,)),
        *maps,
    ]


def map_of(column: str) -> str:
    """The output that says what each number of an array adds."""
    return f"{EXPLANATION}:{column}"


@dataclass(eq=False)
class Explaining:
    """Explains the predictions of one version.

    Args:
        model: The version.

    Raises:
        InputError: It cannot be explained, or the extra is not installed.
    """

    model: Model
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        # Only here: who serves without explanations never loads torch.
        import torch  # noqa: PLC0415

        from learning.explanation import Explainer  # noqa: PLC0415

        # The other cores are for predictions.
        torch.set_num_threads(1)
        self._explain: Any = Explainer(self.model).explain
        schema = self.model.task.schema
        self.names = tuple(name for name, _, _ in explanation_outputs(schema))

    def wanted(self, outputs: Collection[str], rows: int) -> bool:
        """Whether a request names one of the explanation's outputs.

        Raises:
            Refusal: It does, and has too many rows.
        """
        if set(self.names).isdisjoint(outputs):
            return False
        if rows > MOST_ROWS:
            raise Refusal(
                Kind.TOO_LARGE,
                "rows of a request to explain",
                expected=f"1 to {MOST_ROWS}",
                found=str(rows),
            )
        return True

    async def answer(self, x_NF: FloatArray) -> list[Tensor]:
        """The explanation's outputs.

        Args:
            x_NF: Features.
        """
        loop = asyncio.get_running_loop()
        return _tensors(await loop.run_in_executor(_one, self._explain, x_NF))


def _tensors(found: Explanation) -> list[Tensor]:
    maps = [Tensor(map_of(name), "FP64", one) for name, one in found.maps.items()]
    return [
        Tensor(EXPLANATION, "FP64", found.columns_NK),
        Tensor(EXPLAINED, "INT64", found.answer_N),
        Tensor(START, "FP64", found.start_N),
        Tensor(GAP, "FP64", found.gap_N),
        *maps,
    ]
