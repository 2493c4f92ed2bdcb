"""What the server answers, whichever protocol asked: health, metadata, inference."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass

from learning.task import FloatArray
from serving.columns import describe, table_of
from serving.flags import flags_of
from serving.limits import Turnstile
from serving.loading import Catalogue, Served
from serving.payloads import BYTES, Reply, Request, Tensor
from serving.refusal import Kind, Refusal, invalid
from serving.tokens import Gate, Scope

EXTENSIONS = ("binary_tensor_data",)
FLAGS = "flags"
_DATATYPES = {"number": "FP64", "text": BYTES, "flag": "BOOL"}
_PREPARED_APART = 8192


@dataclass(frozen=True, kw_only=True)
class Description:
    """A model's metadata; of each tensor name, datatype and shape."""

    name: str
    versions: tuple[str, ...]
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    properties: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks.

    Args:
        authorization: Value of the header of that name, empty where there is none.
        peer: The other end's address.
    """

    authorization: str = ""
    peer: str = ""


@dataclass(eq=False)
class DataPlane:
    """Answers requests with the models of a catalogue.

    Args:
        catalogue: What is served.
        gate: Who may ask.
        turnstile: How much may be asked.
        most_rows: Most rows of a request.
        deadline_s: Longest time that an answer may take.
        draining: Whether the server was told to end, and takes no new connection.
    """

    catalogue: Catalogue
    gate: Gate
    turnstile: Turnstile
    most_rows: int
    deadline_s: float
    draining: bool = False

    @property
    def ready(self) -> bool:
        """Whether every model can be asked."""
        return not self.draining and self.catalogue.ready

    def admit(self, caller: Caller, scope: Scope, model: str = "") -> str:
        """Who asks, if they may; see `serving.tokens.Gate.admit`."""
        return self.gate.admit(caller.authorization, scope, model, caller.peer)

    def model_ready(self, name: str, version: str = "") -> bool:
        """Whether a version can be asked."""
        try:
            self.catalogue.find(name, version)
        except Refusal:
            return False
        return not self.draining

    def describe(self, caller: Caller, name: str, version: str = "") -> Description:
        """A model's metadata.

        Raises:
            Refusal: It is not served, or the caller may not ask.
        """
        self.admit(caller, "read", name)
        model = self.catalogue.find(name, version).model
        schema = model.task.schema
        outputs = [
            (one.name, _DATATYPES[one.kind], (-1, len(one.columns)) if one.columns else (-1,))
            for one in model.task.outputs
        ]
        outputs.append((FLAGS, "UINT8", (-1, len(schema.columns))))
        return Description(
            name=name,
            versions=tuple(map(str, self.catalogue.versions(name))),
            inputs=tuple(describe(schema)),
            outputs=tuple(outputs),
            properties=_parameters(self.catalogue.find(name, version)),
        )

    async def infer(self, caller: Caller, request: Request, left_s: float | None = None) -> Reply:
        """Predictions of the rows of a request.

        Args:
            caller: Who asks.
            request: What is asked.
            left_s: How long the client waits; None where it does not say.

        Raises:
            Refusal: The request is wrong, too much, or may not be asked by this caller.
        """
        client = self.admit(caller, "predict", request.model)
        deadline_s = self.deadline_s if left_s is None else min(left_s, self.deadline_s)
        with self.turnstile.enter(client):
            try:
                async with asyncio.timeout(deadline_s):
                    return await self._infer(request)
            except TimeoutError:
                raise Refusal(
                    Kind.DEADLINE, "no answer in time", expected=f"{deadline_s:g} s"
                ) from None

    async def _infer(self, request: Request) -> Reply:
        served = self.catalogue.find(request.model, request.version)
        if sum(tensor.array.size for tensor in request.inputs) <= _PREPARED_APART:
            x_NF, flags = self._prepare(served, request)
        else:
            x_NF, flags = await asyncio.to_thread(self._prepare, served, request)
        predicted_NC = await served.batcher.submit(x_NF)
        outputs = {tensor.name: tensor for tensor in (*_answered(served, predicted_NC), flags)}
        if unknown := [name for name in request.outputs if name not in outputs]:
            raise invalid(f"unknown output {unknown[0][:64]!r}", expected=", ".join(outputs))
        card = served.model.card
        return Reply(
            model=card.name,
            version=str(card.version),
            id=request.id,
            outputs=tuple(outputs[name] for name in request.outputs or outputs),
            parameters=_parameters(served),
        )

    def _prepare(self, served: Served, request: Request) -> tuple[FloatArray, Tensor]:
        """Features N x F, and what happened to each value."""
        schema = served.model.task.schema
        table = table_of(schema, request.inputs, self.most_rows)
        flags = Tensor(FLAGS, "UINT8", flags_of(schema, table))
        return served.model.task.features(table)[0], flags


def _answered(served: Served, predicted_NC: FloatArray) -> list[Tensor]:
    """What the model says, by the names that its task gives."""
    task = served.model.task
    answers = task.answers(predicted_NC)
    return [Tensor(one.name, _DATATYPES[one.kind], answers[one.name]) for one in task.outputs]


def _parameters(served: Served) -> Mapping[str, str]:
    """What goes with every prediction; columns of outputs as JSON, since any text may be one."""
    card = served.model.card
    columns = {
        f"{one.name}_columns": json.dumps(one.columns, ensure_ascii=False)
        for one in served.model.task.outputs
        if one.columns
    }
    return {
        "model": card.label,
        "intended_use": card.intended_use,
        "weights_sha256": card.digests.weights,
        **columns,
    }
