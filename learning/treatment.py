"""Treatment: the outcome under each of several treatments, and which one to recommend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from learning.base import DEEP, LINEAR, Chosen
from learning.dense import check_hidden, entries, first_weights, outputs
from learning.forward import dense, sigmoid, softmax
from learning.invented import invent, invented_patients
from learning.outputs import Answers, Output, texts
from learning.subgroup_evaluation import with_subgroups
from learning.subgroup_parts import TreatmentBlock
from learning.targets import targeted
from learning.task import (
    Evaluation,
    FloatArray,
    FloatVector,
    IntVector,
    Measure,
    Recipe,
    Records,
    Report,
    Table,
)
from learning.treatment_evaluation import TreatmentEvaluation, recommended
from protocol.errors import InputError
from protocol.tensors import Layout

DEFAULT_HIDDEN = (32, 16)
VALUE = Measure(name="value", title="Patients with the better outcome under the learnt rule")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job may choose.

    Args:
        model: `logistic` (a shared score and one for each treatment) or `mlp` (a shared trunk).
        hidden: Widths of the trunk's layers, (32, 16) if not given.
        propensities: Chance of each treatment where a trial drew lots; learnt if not given.
        scarce: Chance below which a treatment counts as hardly ever given; weights end at its
            inverse.
    """

    model: Literal["logistic", "mlp"] = "logistic"
    hidden: tuple[int, ...] | None = None
    propensities: Mapping[str, float] | None = None
    scarce: float = 0.05

    def __post_init__(self) -> None:
        check_hidden(self.hidden, self.model)
        if not 0.001 <= self.scarce <= 0.5:
            raise InputError("scarce", expected="0.001 to 0.5", found=str(self.scarce))


@dataclass(frozen=True)
class Recommendation:
    """What the model says of one patient.

    Args:
        arm: The treatment with the best predicted outcome.
        outcome: Chance of the better outcome under it.
        effect: That chance minus the one under the first treatment of the schema.
        overlap: Whether such patients have been given the treatment often enough to say so.
    """

    arm: str
    outcome: float
    effect: float
    overlap: bool


@dataclass(frozen=True)
class Treatment(Chosen):
    """Outcomes by treatment; see docs/tasks/treatment.md.

    A record's target is 2 a + y: treatment a was given, and y = 1 was the better outcome.
    """

    options: Options

    def __post_init__(self) -> None:
        if len(self.schema.label.texts) != 2:
            raise InputError("label of treatment", expected="two classes, the second is better")
        if [column.kind for column in self.schema.targets] != ["category"]:
            raise InputError("targets of treatment", expected="one category: what was given")
        _ = self.known_A

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the A treatments."""
        return self.schema.targets[0].labels

    @cached_property
    def known_A(self) -> FloatVector | None:  # noqa: N802 - the shape is part of the name
        """Known chances of the treatments, None where they are learnt.

        Raises:
            InputError: They name other treatments, or are no chances that add up to 1.
        """
        given = self.options.propensities
        if given is None:
            return None
        if set(given) != set(self.arms):
            raise InputError("propensities", expected=", ".join(self.arms), found=", ".join(given))
        chance_A = np.array([given[arm] for arm in self.arms], dtype=np.float64)
        if not (chance_A.min() > 0 and abs(chance_A.sum() - 1.0) < 1e-6):
            raise InputError("propensities", expected="positive chances that add up to 1")
        return chance_A

    @property
    def recipe(self) -> Recipe:
        """A network takes a longer path, and more rounds."""
        return LINEAR if self.options.model == "logistic" else DEEP

    @property
    def evaluation(self) -> Evaluation:
        """Everybody's counts, and the rule's value for subgroups."""
        return with_subgroups(self.schema, self.everybody, TreatmentBlock(self.everybody))

    @cached_property
    def everybody(self) -> TreatmentEvaluation:
        """Values of the rule and of each treatment."""
        scarce = self.options.scarce
        cap = 1.0 / scarce if self.known_A is None else 1.0 / float(self.known_A.min())
        return TreatmentEvaluation(self.arms, cap=cap, scarce=scarce)

    @property
    def measure(self) -> Measure:
        """Doubly robust value of the rule."""
        return VALUE

    @property
    def _widths(self) -> tuple[int, ...]:
        outputs_ = len(self.arms) * (1 if self.known_A is not None else 2)
        hidden = () if self.options.model == "logistic" else self.options.hidden or DEFAULT_HIDDEN
        return (self.schema.num_features, *hidden, outputs_)

    @cached_property
    def _layout(self) -> Layout:
        shared = (("shared.weight", (1, self.schema.num_features)),)
        return Layout(
            (*(shared if self.options.model == "logistic" else ()), *entries(self._widths))
        )

    def layout(self) -> Layout:
        """Names and shapes of the P parameters, in order."""
        return self._layout

    def initial(self, seed: int) -> FloatVector:
        """P public initial weights: every outcome and every treatment is as likely."""
        return self._layout.join(first_weights(self._layout, seed))

    def records(self, table: Table) -> tuple[Records, Report]:
        """Turn raw columns into records; rows without outcome or treatment are left out."""
        return targeted(self.schema, table, self.encode)

    def encode(self, value_N2: FloatArray) -> IntVector:
        """The code 2 a + y of outcomes and treatments, N x 2."""
        code_N: IntVector = (2 * value_N2[:, 1] + value_N2[:, 0]).astype(np.int64)
        return code_N

    def model(self) -> Any:
        """A `torch.nn.Module` in double precision; its output is B x A or B x 2A log-odds."""
        from learning.networks import Arms, Dense  # noqa: PLC0415 - no torch elsewhere

        if self.options.model == "mlp":
            return Dense(self._widths)
        return Arms(self.schema.num_features, len(self.arms), self._widths[-1])

    def loss(self, output: Any, target: Any) -> Any:
        """Cross-entropy of the outcome (and of the treatment where it is learnt), shape (B,)."""
        from learning.networks import treatment_loss  # noqa: PLC0415 - no torch elsewhere

        return treatment_loss(output, target, len(self.arms))

    def predict(self, weights_P: FloatVector, x_NF: FloatArray) -> FloatArray:
        """Chance of the better outcome under each treatment, then of being given it: N x 2A."""
        x_NF = np.asarray(x_NF, dtype=np.float64)
        arrays, arms = self._layout.split(weights_P), len(self.arms)
        logits_NO = outputs(arrays, x_NF)
        outcome_NA = logits_NO[:, :arms]
        if "shared.weight" in arrays:
            outcome_NA = outcome_NA + dense(x_NF, arrays["shared.weight"], np.zeros(1))
        if self.known_A is None:
            given_NA = softmax(logits_NO[:, arms:])
        else:
            given_NA = np.broadcast_to(self.known_A, outcome_NA.shape)
        return np.hstack([sigmoid(outcome_NA), given_NA])

    def recommend(self, predicted_NC: FloatArray) -> tuple[Recommendation, ...]:
        """The recommendation for each patient, from `predict`'s output."""
        arms = len(self.arms)
        chosen_N = recommended(predicted_NC, arms)
        return tuple(
            Recommendation(
                arm=self.arms[arm],
                outcome=float(row[arm]),
                effect=float(row[arm] - row[0]),
                overlap=bool(row[arms + arm] >= self.options.scarce),
            )
            for row, arm in zip(predicted_NC, chosen_N.tolist(), strict=True)
        )

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """The recommended treatment, and outcome, effect and chance of each."""
        better, first = self.schema.label.texts[1], self.arms[0]
        outcome = f"Chance of {self.schema.label.name} = {better} under each treatment"
        return (
            Output(name="arm", kind="text", meaning="The treatment with the best outcome"),
            Output(name="outcomes", columns=self.arms, meaning=outcome),
            Output(
                name="effects",
                columns=self.arms,
                meaning=f"That chance minus the one under {first}",
            ),
            Output(
                name="overlap",
                kind="flag",
                columns=self.arms,
                meaning="Whether such patients are given each treatment often enough to tell",
            ),
        )

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """The outputs of predictions N x 2A."""
        arms = len(self.arms)
        outcome_NA, given_NA = predicted_NC[:, :arms], predicted_NC[:, arms:]
        return {
            "arm": texts(self.arms, recommended(predicted_NC, arms)),
            "outcomes": outcome_NA,
            "effects": outcome_NA - outcome_NA[:, :1],
            "overlap": given_NA >= self.options.scarce,
        }

    def score(self, predicted_NC: FloatArray, y_N: npt.NDArray[Any]) -> float:
        """Doubly robust value of the rule.

        Raises:
            InputError: There are no records.
        """
        if not len(y_N):
            raise InputError("the value of a rule needs records")
        return self.everybody.exact_value(predicted_NC, y_N)

    def generate(self, n: int, rng: np.random.Generator) -> Records:
        """Invent `n` records within the schema's bounds, for guards and tests."""
        return Records(
            x_NF=invent(self.schema, n, rng),
            y_N=rng.integers(2 * len(self.arms), size=n),
            patient_N=invented_patients(self.schema, n),
        )
