"""What a model says of all hospitals' held-out patients: only a simulation sees them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from client.hospital import Split
from learning.few import LEAST
from learning.subgroups import marked
from learning.task import FloatArray, FloatVector, Records, Task
from protocol.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """One model's predictions for everybody who was held out.

    Args:
        task: The model's task.
        records: The records, each its own patient's.
        predicted_NC: What the model predicts of them.
    """

    task: Task
    records: Records
    predicted_NC: FloatArray  # noqa: N815 - the shape is part of the name

    @classmethod
    def of(cls, task: Task, weights_P: FloatVector, splits: Mapping[str, Split]) -> HeldOut:
        """Predict all hospitals' held-out records."""
        parts = [split.test for split in splits.values()]
        y_N = np.concatenate([part.y_N for part in parts])
        x_NF = np.concatenate([part.x_NF for part in parts])
        records = Records(x_NF=x_NF, y_N=y_N, patient_N=np.arange(len(y_N), dtype=np.int64))
        return cls(task=task, records=records, predicted_NC=task.predict(weights_P, x_NF))

    def score(self) -> float:
        """The task's measure, exactly.

        Raises:
            InputError: The records do not determine it.
        """
        return self.task.score(self.predicted_NC, self.records.y_N)

    def subgroups(self) -> Iterator[tuple[str, str, float | None]]:
        """The measure of each value of each marked column; None of too few records."""
        for column in marked(self.task.schema):
            code_N = column.codes(self.records.x_NF)
            for code, level in enumerate(column.levels):
                here_N = code_N == code
                yield column.column, level, self._score_of(here_N)

    def _score_of(self, here_N: FloatVector) -> float | None:
        if here_N.sum() < LEAST:
            return None
        try:
            return self.task.score(self.predicted_NC[here_N], self.records.y_N[here_N])
        except InputError:
            return None
