"""What the server answers, whichever protocol asked: health, metadata, inference."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NewType

from serving.answering import FLAGS
from serving.batching import SMALL
from serving.columns import describe, patients_of, table_of
from serving.explaining import explanation_outputs
from serving.feedback import read_feedback
from serving.limits import Turnstile
from serving.loading import Catalogue
from serving.metrics import Metrics
from serving.monitor import Monitor
from serving.payloads import Reply, Request, Tensor
from serving.refusal import Kind, Refusal
from serving.spool import Spools
from serving.tokens import Gate, Scope

EXTENSIONS = ("binary_tensor_data",)

Admitted = NewType("Admitted", str)
"""Name of a model that somebody may ask now: there is none but inside `DataPlane.entered`."""


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


class Entry:
    """A place among the requests under way while a context lasts, and the time that it may last."""

    __slots__ = ("_client", "_deadline_s", "_model", "_timeout", "_turnstile")

    def __init__(
        self, turnstile: Turnstile, client: str, model: Admitted, deadline_s: float
    ) -> None:
        self._turnstile, self._client, self._model = turnstile, client, model
        self._deadline_s = deadline_s
        self._timeout = asyncio.timeout(deadline_s)

    async def __aenter__(self) -> Admitted:
        self._turnstile.take(self._client)
        await self._timeout.__aenter__()
        return self._model

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._turnstile.give_back()
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            told = "no whole request, or no answer, in time"
            raise Refusal(Kind.DEADLINE, told, expected=f"{self._deadline_s:g} s") from None


@dataclass(eq=False)
class DataPlane:
    """Answers requests with the models of a catalogue.

    Args:
        catalogue: What is served.
        gate: Who may ask.
        turnstile: How much may be asked.
        most_rows: Most rows of a request.
        deadline_s: Longest time that an answer may take.
        monitor: What is watched.
        metrics: What is measured.
        spools: Where rows are kept that are to be.
        draining: Whether the server was told to end, and takes no new connection.
    """

    catalogue: Catalogue
    gate: Gate
    turnstile: Turnstile
    most_rows: int
    deadline_s: float
    monitor: Monitor
    metrics: Metrics
    spools: Spools
    draining: bool = False

    @property
    def ready(self) -> bool:
        """Whether every model can be asked."""
        return not self.draining and self.catalogue.ready

    def admit(self, caller: Caller, scope: Scope, model: str = "") -> str:
        """Who asks, if they may; see `serving.tokens.Gate.admit`."""
        return self.gate.admit(caller.authorization, scope, model, caller.peer)

    def admits(self, caller: Caller, scope: Scope, model: str) -> bool:
        """Whether somebody may ask."""
        try:
            self.admit(caller, scope, model)
        except Refusal:
            return False
        return True

    def model_ready(self, caller: Caller, name: str, version: str = "") -> bool:
        """Whether a version can be asked; whoever may predict with it or read about it may know.

        Raises:
            Refusal: The caller may do neither: what is served is nobody else's business.
        """
        if not self.admits(caller, "predict", name):
            self.admit(caller, "read", name)
        return self.can_answer(name, version)

    def can_answer(self, name: str, version: str = "") -> bool:
        """Whether a version is loaded, and the server is not about to end."""
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
        served = self.catalogue.find(name, version)
        model = served.model
        schema = model.task.schema
        widths = {one.name: one.columns for one in model.outputs}
        widths[FLAGS] = schema.names
        outputs: list[tuple[str, str, tuple[int, ...]]] = [
            (name, datatype, (-1, len(widths[name])) if widths[name] else (-1,))
            for name, datatype in served.datatypes.items()
        ]
        if served.explaining is not None:
            outputs += explanation_outputs(schema)
        return Description(
            name=name,
            versions=tuple(map(str, self.catalogue.versions(name))),
            inputs=tuple(describe(schema)),
            outputs=tuple(outputs),
            properties=served.parameters,
        )

    def metered(self, name: str, protocol: str) -> AbstractContextManager[None]:
        """Take note of a request for a model, however it ends."""
        known = name if name in self.catalogue.names else "unknown"
        return self.metrics.metered(known, protocol)

    def entered(
        self, caller: Caller, scope: Scope, model: str, left_s: float | None = None
    ) -> Entry:
        """A place among the requests under way, for as long as one may take.

        A translator enters before it reads a request, so that limits hold before memory is taken.

        Args:
            caller: Who asks.
            scope: What for.
            model: Which model.
            left_s: How long the client waits; None where it does not say.

        Raises:
            Refusal: The caller may not ask this; from the context, that there is no place now, or
                that the time was over.
        """
        client = self.admit(caller, scope, model)
        deadline_s = self.deadline_s if left_s is None else min(left_s, self.deadline_s)
        return Entry(self.turnstile, client, Admitted(model), deadline_s)

    def feedback(self, model: Admitted, version: str, document: Mapping[str, Any]) -> int:
        """Take note of what came true.

        Returns:
            How many labels were taken.

        Raises:
            Refusal: The document is wrong.
        """
        found = self.catalogue.find(model, version).model
        told = read_feedback(found.task, document, self.most_rows)
        self.monitor.add(found.card.label, told)
        return told.rows

    async def infer(self, model: Admitted, request: Request) -> Reply:
        """Predictions of the rows of a request.

        Args:
            model: Which model predicts.
            request: What is asked.

        Raises:
            Refusal: The request is wrong or too much.
        """
        served = self.catalogue.find(model, request.version)
        datatypes, explaining = served.datatypes, served.explaining
        served.check(request.outputs)
        cells = sum(tensor.array.size for tensor in request.inputs)
        schema = served.model.task.schema
        if cells <= SMALL:
            table = table_of(schema, request.inputs, self.most_rows)
        else:
            table = await asyncio.to_thread(table_of, schema, request.inputs, self.most_rows)
        rows = request.inputs[0].array.shape[0]
        # What is refused is refused before it is counted and kept.
        patients = None if served.kept is None else patients_of(schema, request.inputs, rows)
        wanted = explaining is not None and explaining.wanted(request.outputs, rows)
        answer = await served.batcher.submit(table, rows, cells)
        outputs = {name: Tensor(name, datatypes[name], answer[name]) for name in datatypes}
        if explaining is not None and wanted:
            explained = await explaining.answer(served.model.task.features(table)[0])
            outputs |= {tensor.name: tensor for tensor in explained}
        if served.kept is not None and patients is not None:
            served.kept.take(table, answer[FLAGS], patients)
        card = served.model.card
        return Reply(
            model=card.name,
            version=str(card.version),
            id=request.id,
            outputs=tuple(outputs[name] for name in request.outputs or datatypes),
            parameters=served.parameters,
        )
