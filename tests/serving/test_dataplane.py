"""Requests that are answered together, each with its own rows and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.config import read
from serving.config import ServingConfig
from serving.dataplane import Admitted, DataPlane
from serving.payloads import Reply, Request, Tensor
from serving.refusal import Refusal
from serving.server import make_plane
from tests.serving.ward import PLAIN, add, configure, put

AGE = Admitted("age")


@pytest.fixture
def plane(tmp_path: Path) -> DataPlane:
    add(tmp_path / "models", "age", {**PLAIN, "patient": "case"}, 1)
    put(tmp_path / "models", "age", 1)
    config = configure(tmp_path, models=[{"name": "age"}])
    return make_plane(read(ServingConfig, config), tmp_path)


def asked(ages: Sequence[float], *before: Tensor, **changes: Any) -> Request:
    matrix = Tensor("columns", "FP64", np.array([[age] for age in ages]))
    return Request(inputs=(*before, matrix), **changes)


def answers(plane: DataPlane, *requests: Request) -> list[Any]:
    """The first output of each request of one turn, or why there is none."""

    async def together() -> list[Reply | BaseException]:
        every = (plane.infer(AGE, request) for request in requests)
        return await asyncio.gather(*every, return_exceptions=True)

    return [
        one.outputs[0].array.tolist() if isinstance(one, Reply) else one
        for one in asyncio.run(together())
    ]


def test_patients_beside_a_matrix_move_nobodys_answer(plane: DataPlane) -> None:
    alone = [answers(plane, asked([age]))[0] for age in (10.0, 50.0, 90.0)]
    more = Tensor("case", "BYTES", np.array(["P1", "P2"], dtype=object))
    first, second, wrong, third = answers(
        plane, asked([10.0]), asked([50.0]), asked([20.0], more), asked([90.0])
    )
    assert [first, second, third] == alone
    assert isinstance(wrong, Refusal)
    assert "differ in their number of rows" in str(wrong)


def test_an_output_is_wanted_once(plane: DataPlane) -> None:
    """A small request for a million copies would be an answer that no machine holds."""
    assert answers(plane, asked([1.0], outputs=("flags",))) == [[[0]]]
    (told,) = answers(plane, asked([1.0], outputs=("flags", "label", "flags")))
    assert "an output occurs twice" in str(told)
