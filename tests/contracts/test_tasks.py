"""One suite over every installed task: what learning.task.Task promises."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learning.networks import set_weights
from learning.subgroups import beside
from learning.task import (
    Cells,
    FloatArray,
    FloatVector,
    IntVector,
    Records,
    Table,
    Task,
    installed,
    load_task,
)
from learning.trainer import PlainGradient, train
from protocol.errors import InputError
from protocol.jobs import Named

COLUMNS: list[dict[str, Any]] = [
    {"name": "age", "kind": "number", "unit": "years", "low": 0, "high": 120, "centre": 60},
    {"name": "crp", "kind": "number", "low": 0, "high": 500, "spread": 50, "may_be_missing": True},
    {"name": "sex", "kind": "category", "categories": ["female", "male"], "may_be_missing": True},
    {"name": "smoker", "kind": "flag"},
]

MARKED = [
    {**column, "subgroup": True} if column["kind"] in {"category", "flag"} else column
    for column in COLUMNS
]


@dataclass(frozen=True)
class Case:
    """A task as a job would name it."""

    name: str
    schema: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Task:
        return load_task(Named(name=self.name, options=self.options), self.schema)


TWO = {"columns": COLUMNS, "label": {"name": "ill", "classes": ["no", "yes"]}}
TIMED = {
    "columns": COLUMNS,
    "label": {"name": "died", "classes": ["no", "yes"]},
    "targets": [{"name": "months", "kind": "number", "low": 0, "high": 24}],
}
TREATED = {
    "columns": COLUMNS,
    "label": {"name": "better", "classes": ["no", "yes"]},
    "targets": [{"name": "drug", "kind": "category", "categories": ["old", "new", "none"]}],
}
LOTS = {"propensities": {"old": 0.25, "new": 0.5, "none": 0.25}}
COUNTED = {"columns": COLUMNS, "label": {"name": "beds", "low": 0, "high": 40}}
FLAGS = [{"name": "stroke", "kind": "flag"}, {"name": "fall", "kind": "flag"}]
MANY = {**TWO, "targets": FLAGS}
FOUR = {"columns": COLUMNS, "label": {"name": "stage", "classes": [1, 2, 3, 4]}}
NOTE = {"name": "note", "kind": "text", "length": 6, "may_be_missing": True}
NOTED = {**TWO, "columns": [NOTE, *COLUMNS, {**NOTE, "name": "plan", "length": 3}]}
SMALL = {"buckets": 24, "width": 4}
IMAGE = {"name": "image", "kind": "array", "shape": [1, 5, 4], "low": 0, "high": 255}
SERIES = {"name": "series", "kind": "array", "shape": [7, 2], "low": -5, "high": 5}
IMAGED = {**TWO, "columns": [COLUMNS[0], {**IMAGE, "may_be_missing": True}, *COLUMNS[1:]]}
TRACED = {**TWO, "columns": [*COLUMNS, SERIES]}

CASES = {
    "logistic": Case("diagnosis", TWO),
    "logistic of patients": Case("diagnosis", {**TWO, "patient": "pid"}),
    "weighted logistic": Case(
        "diagnosis", TWO, {"model": "logistic", "class_weights": {"no": 1, "yes": 7.5}}
    ),
    "many classes": Case("diagnosis", FOUR),
    "network": Case("diagnosis", {**TWO, "patient": "pid"}, {"model": "mlp", "hidden": [6, 5]}),
    "survival": Case("survival", TIMED),
    "survival of patients": Case("survival", {**TIMED, "patient": "pid"}, {"intervals": 3}),
    "survival by a network": Case(
        "survival", TIMED, {"model": "mlp", "hidden": [5], "cuts": [3, 24]}
    ),
    "treatment": Case("treatment", TREATED),
    "treatment by lots": Case("treatment", {**TREATED, "patient": "pid"}, LOTS),
    "treatment by a network": Case("treatment", TREATED, {"model": "mlp", "hidden": [5]}),
    "demand": Case("demand", COUNTED, {"quantiles": [0.25, 0.5, 0.75]}),
    "demand of wards": Case("demand", {**COUNTED, "patient": "pid"}),
    "demand by a network": Case("demand", COUNTED, {"model": "mlp", "hidden": [4]}),
    "labels": Case("labels", MANY, {"positive_weights": {"stroke": 4.0}}),
    "labels of patients": Case(
        "labels", {**MANY, "patient": "pid"}, {"model": "mlp", "hidden": [4]}
    ),
    "text": Case("text", NOTED, {"buckets": 24}),
    "text of patients": Case(
        "text", {**NOTED, "patient": "pid", "targets": FLAGS}, {"model": "bag", **SMALL}
    ),
    "text by a transformer": Case("text", NOTED, {"model": "transformer", **SMALL}),
    "network of many classes": Case("diagnosis", FOUR, {"model": "mlp", "hidden": [4]}),
    "imaging": Case("imaging", IMAGED, {"widths": [2, 4], "centres": [99], "spreads": [40]}),
    "signals of patients": Case(
        "signals",
        {**TRACED, "patient": "pid", "targets": FLAGS},
        {"widths": [2, 4], "kernel": 3},
    ),
    "signals by a gated unit": Case(
        "signals", TRACED, {"model": "recurrent", "frame": 2, "state": 3}
    ),
}

# Many cases share what a property is tried on.
EXAMPLES = settings().max_examples // 2

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

# What is counted of predictions does not ask where they came from: the first case of each kind.
FIRST = [*{case.build().evaluation: name for name, case in reversed(CASES.items())}.values()]
# A mark changes what is counted, and nothing else.
MARKED_CASES = {
    "marked diagnosis of patients": Case("diagnosis", {**TWO, "columns": MARKED, "patient": "pid"}),
    "marked many classes": Case("diagnosis", {**FOUR, "columns": MARKED}),
    "marked labels": Case("labels", {**MANY, "columns": MARKED}),
    "marked survival": Case("survival", {**TIMED, "columns": MARKED}, {"intervals": 3}),
    "marked treatment": Case("treatment", {**TREATED, "columns": MARKED}, LOTS),
    "marked demand": Case("demand", {**COUNTED, "columns": MARKED}),
}
COUNTING = {name: CASES[name] for name in FIRST} | MARKED_CASES
every_evaluation = pytest.mark.parametrize("case", COUNTING.values(), ids=COUNTING)

# Tasks whose weights are no model: they read records and have a layout, and predict nothing.
TABLES = {
    "statistics": Case("statistics", TWO),
    "statistics of patients": Case("statistics", {**COUNTED, "patient": "pid"}, {"bins": 0}),
    "curves": Case("statistics", TIMED, {"curves": {"time": "months", "group": "sex"}}),
}
ALL = {**CASES, **TABLES}
every_table_too = pytest.mark.parametrize("case", ALL.values(), ids=ALL)


def random_weights(task: Task, seed: int = 0) -> FloatVector:
    return np.random.default_rng(seed).normal(size=task.layout().size)


def invented(task: Task, n: int, seed: int = 0) -> Records:
    return task.generate(n, np.random.default_rng(seed))


def losses(task: Task, weights_P: FloatVector, records: Records) -> torch.Tensor:
    model: torch.nn.Module = task.model()
    set_weights(model, task.layout(), weights_P)
    output = model(torch.from_numpy(records.x_NF))
    loss_B = task.loss(output, torch.from_numpy(records.y_N))
    assert isinstance(loss_B, torch.Tensor)
    return loss_B


def test_every_installed_task_has_a_case() -> None:
    assert {case.name for case in ALL.values()} == set(installed())


@every_case
def test_layout_is_the_models_parameters(case: Case) -> None:
    task = case.build()
    model: torch.nn.Module = task.model()
    named = tuple((name, tuple(p.shape)) for name, p in model.named_parameters())
    assert named == task.layout().entries
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not list(model.buffers())
    assert all(torch.isfinite(p).all() for p in model.parameters())


CHILD = """
import hashlib, json, sys
import numpy as np
from learning.subgroups import beside
from learning.task import load_task
from protocol.jobs import Named
found = {}
for title, (name, options, schema) in json.loads(sys.stdin.read()).items():
    task = load_task(Named(name=name, options=options), schema)
    weights = task.initial(7)
    assert len(weights) == task.layout().size
    records = task.generate(8, np.random.default_rng(0))
    probs = task.predict(weights, records.x_NF)
    seen = beside(task.schema, probs, records.x_NF)
    counts = task.evaluation.counts(seen, records.y_N, records.patient_N)
    task.evaluation.metrics(counts, 1.0)
    foreign = {"torch", "opacus", "flwr", "grpc", "ray", "tenseal", "privacy"} & set(sys.modules)
    found[title] = [hashlib.sha256(weights.tobytes()).hexdigest(), sorted(foreign)]
print(json.dumps(found))
"""


def test_another_process_has_the_same_initial_bits_and_never_loads_torch() -> None:
    cases = {title: (case.name, case.options, case.schema) for title, case in CASES.items()}
    run = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout) == {
        title: [hashlib.sha256(case.build().initial(7).tobytes()).hexdigest(), []]
        for title, case in CASES.items()
    }


@every_case
def test_initial_weights_are_finite_and_say_nothing_yet(case: Case) -> None:
    task = case.build()
    weights_P = task.initial(1)
    assert weights_P.dtype == np.float64
    assert weights_P.shape == (task.layout().size,)
    assert np.isfinite(weights_P).all()
    probs_NC = task.predict(weights_P, invented(task, 20).x_NF)
    assert (probs_NC == probs_NC[0]).all()


@every_table_too
def test_generated_records_fit_the_task(case: Case) -> None:
    task = case.build()
    records = invented(task, 40)
    assert records.x_NF.shape == (40, task.schema.num_features)
    assert np.isfinite(records.x_NF).all()
    again = invented(task, 40)
    assert (again.x_NF == records.x_NF).all()
    assert (again.y_N == records.y_N).all()
    assert records.num_patients == (40 if task.schema.unit == "record" else 20)
    assert len(invented(task, 0)) == 0


HOSTILE: list[str | float | None] = [
    None, float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e300, 10**400, 10**5000, "1e999",
    "", " ", "NaN", "-inf", "3,5", "1_0", "0x10", "male ", "yes", "TRUE", "2.0", 0.0, -5.0, 61.0,
    1e6, "💉",
]  # fmt: skip


def hostile_array(shape: tuple[int, ...], seed: int) -> FloatArray:
    """Numbers within bounds and beyond, gaps and what is no number."""
    rng = np.random.default_rng(seed)
    odd = np.array([np.nan, np.inf, -np.inf, 3e38, -1e300, 0.0])
    return np.where(
        rng.random(shape) < 0.3, rng.choice(odd, size=shape), 300 * rng.normal(size=shape)
    )


@st.composite
def tables(draw: st.DrawFn, task: Task) -> dict[str, Cells]:
    """Tables of anything: hostile values, text, numbers, and labels that are mostly known."""
    rows = draw(st.integers(0, 6))
    cell = st.one_of(st.sampled_from(HOSTILE), st.floats(), st.text(max_size=4))
    mostly = {
        name: st.one_of(st.sampled_from(values), cell) for name, values in known(task).items()
    }
    table: dict[str, Cells] = {
        name: draw(st.lists(mostly.get(name, cell), min_size=rows, max_size=rows))
        for name in task.schema.column_names
    }
    for column in task.schema.columns:
        if column.kind == "array":
            table[column.name] = hostile_array((rows, *column.shape), draw(st.integers(0, 99)))
    return table


def known(task: Task) -> dict[str, list[str | float | None]]:
    """Values of label and targets that make a row a record."""
    label = task.schema.label
    values: dict[str, list[str | float | None]] = {label.name: [*label.texts] or [3.0, "7"]}
    for column in task.schema.targets:
        values[column.name] = [*column.labels] or [0, 1]
    return values


@every_table_too
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_a_table_holds_becomes_finite_records_row_by_row(
    case: Case, data: st.DataObject
) -> None:
    task = case.build()
    table: Table = data.draw(tables(task))
    records, report = task.records(table)
    rows = len(table[task.schema.label.name])
    assert (report.rows, report.kept) == (rows, len(records))
    assert np.isfinite(records.x_NF).all()
    assert records.x_NF.shape == (len(records), task.schema.num_features)
    assert records.patient_N.dtype == np.int64
    alone = [
        task.records({name: values[row : row + 1] for name, values in table.items()})[0]
        for row in range(rows)
    ]
    kept = [one for one in alone if len(one)]
    assert len(kept) == len(records)
    for row, one in enumerate(kept):
        assert (one.x_NF[0] == records.x_NF[row]).all()
        assert one.y_N[0] == records.y_N[row]
    x_NF, _ = task.features(table)
    assert x_NF.shape == (rows, task.schema.num_features)


@every_case
def test_each_loss_depends_on_its_record_alone(case: Case) -> None:
    task = case.build()
    weights_P = random_weights(task)
    records = invented(task, 12)
    together_B = losses(task, weights_P, records)
    assert together_B.shape == (12,)
    assert together_B.dtype == torch.float64
    assert (together_B >= 0).all()
    for row in range(12):
        alone_B = losses(task, weights_P, records.take(np.array([row])))
        torch.testing.assert_close(alone_B[0], together_B[row], rtol=1e-12, atol=1e-12)
    assert losses(task, weights_P, records.take(np.arange(0))).shape == (0,)


@every_case
def test_gradient_is_the_slope_of_the_loss(case: Case) -> None:
    task = case.build()
    weights_P = random_weights(task)
    records = invented(task, 9)
    gradient_P = PlainGradient(task)(records, weights_P, 0)
    for seed in range(3):
        direction_P = random_weights(task, seed + 1)
        ahead, behind = (
            losses(task, weights_P + sign * 1e-6 * direction_P, records).mean().item()
            for sign in (1, -1)
        )
        assert gradient_P @ direction_P == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)


@every_case
def test_training_lowers_the_loss(case: Case) -> None:
    task = case.build()
    records = invented(task, 60)
    first_P = task.initial(3)
    trained_P = train(task, records, first_P, steps=12, learning_rate=0.05)
    before = losses(task, first_P, records).mean().item()
    assert losses(task, trained_P, records).mean().item() < before


@every_case
def test_predictions_are_finite_and_ignore_the_other_rows(case: Case) -> None:
    task = case.build()
    weights_P = random_weights(task) * 3
    x_NF = invented(task, 33).x_NF
    probs_NC = task.predict(weights_P, x_NF)
    assert probs_NC.dtype == np.float64
    assert probs_NC.shape[0] == 33
    assert np.isfinite(probs_NC).all()
    for row in (0, 16, 32):
        assert (task.predict(weights_P, x_NF[row : row + 1])[0] == probs_NC[row]).all()
    assert task.predict(weights_P, x_NF[:0]).shape == (0, probs_NC.shape[1])


@every_case
def test_predictions_are_torchs_to_single_precision(case: Case) -> None:
    """The numbers of the task's own module, with the same bits once both are float32."""
    task = case.build()
    weights_P, x_NF = random_weights(task), invented(task, 200).x_NF
    model: torch.nn.Module = task.model()
    set_weights(model, task.layout(), weights_P)
    with torch.no_grad():
        z_NO = model(torch.from_numpy(x_NF))
    found_NC = task.predict(weights_P, x_NF)
    linked = torch.hstack(linked_by_torch(case, task, z_NO))
    columns = linked.shape[1]
    assert (found_NC[:, :columns].astype(np.float32) == linked.to(torch.float32).numpy()).all()


def linked_by_torch(case: Case, task: Any, z_NO: torch.Tensor) -> list[torch.Tensor]:
    """What torch makes of a module's output, task by task."""
    if case.name == "survival":
        return [torch.cumprod(torch.sigmoid(-z_NO), dim=1)]
    if case.name == "treatment":
        arms = len(task.arms)
        chances = [] if z_NO.shape[1] == arms else [torch.softmax(z_NO[:, arms:], dim=1)]
        return [torch.sigmoid(z_NO[:, :arms]), *chances]
    if case.name == "demand":
        label = task.schema.label
        return [(z_NO.sort(dim=1).values * 5.0).clip(label.low, label.high)]
    if task.schema.targets:
        return [torch.sigmoid(z_NO)]
    if z_NO.shape[1] > 1:
        return [torch.softmax(z_NO, dim=1)]
    return [torch.sigmoid(-z_NO), torch.sigmoid(z_NO)]


@every_case
def test_outputs_have_names_and_fit_their_description(case: Case) -> None:
    task = case.build()
    predicted_NC = task.predict(random_weights(task), invented(task, 21).x_NF)
    answers = task.answers(predicted_NC)
    names = [one.name for one in task.outputs]
    assert [*answers] == names
    assert len(set(names)) == len(names)
    kinds = {"number": np.float64, "text": np.object_, "flag": np.bool_}
    for one in task.outputs:
        assert one.meaning
        found = answers[one.name]
        assert found.dtype == kinds[one.kind]
        assert found.shape == ((21, len(one.columns)) if one.columns else (21,))
        for row in (0, 20):
            alone = task.answers(predicted_NC[row : row + 1])[one.name]
            np.testing.assert_array_equal(alone[0], found[row])
    assert all(len(one) == 0 for one in task.answers(predicted_NC[:0]).values())


@every_case
def test_the_measure_is_a_number_of_the_predictions_alone(case: Case) -> None:
    task = case.build()
    records = invented(task, 80)
    predicted_NC = task.predict(random_weights(task), records.x_NF)
    value = task.score(predicted_NC, records.y_N)
    assert type(value) is float
    assert 0 <= value <= 1
    order_N = np.random.default_rng(0).permutation(80)
    again = task.score(predicted_NC[order_N], records.y_N[order_N])
    assert again == pytest.approx(value, abs=1e-12)
    assert task.measure.name
    assert task.measure.title


@every_table_too
def test_a_target_leaves_the_labels_class_when_divided_by_their_number(case: Case) -> None:
    task = case.build()
    classes = task.schema.label.texts
    if not classes:
        return
    empty: list[str | float | None] = [None] * (2 * len(classes))
    table = {name: list(empty) for name in task.schema.column_names}
    for name, values in known(task).items():
        table[name] = [values[0]] * 2 * len(classes)
    table[task.schema.label.name] = [*classes, *classes]
    if task.schema.patient is not None:
        table[task.schema.patient] = list(range(2 * len(classes)))
    records, _ = task.records(table)
    assert (records.y_N % len(classes)).tolist() == [*range(len(classes))] * 2


@st.composite
def scored(draw: st.DrawFn, task: Task) -> tuple[FloatArray, IntVector, IntVector]:
    """Predictions from flat to extreme, targets, patients with any number of records each."""
    rows, seed = draw(st.integers(0, 30)), draw(st.integers(0, 2**32))
    sharpness = draw(st.sampled_from([0.01, 1.0, 100.0]))
    records = invented(task, rows, seed)
    probs_NC = task.predict(random_weights(task, seed) * sharpness, records.x_NF)
    patient_N = np.random.default_rng(seed).integers(draw(st.integers(1, 12)), size=rows)
    return beside(task.schema, probs_NC, records.x_NF), np.asarray(records.y_N), patient_N


@every_evaluation
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_patients_counts_stay_within_the_bound_exactly(case: Case, data: st.DataObject) -> None:
    task = case.build()
    probs_NC, y_N, patient_N = data.draw(scored(task))
    vectors_UE = task.evaluation.vectors(probs_NC, y_N, patient_N)
    assert vectors_UE.shape == (len(np.unique(patient_N)), task.evaluation.length)
    bound = Fraction(task.evaluation.norm) ** 2
    for vector_E in vectors_UE:
        assert 0 < sum(Fraction(entry) ** 2 for entry in vector_E[vector_E != 0].tolist()) <= bound
    raised_E = vectors_UE.any(axis=0)
    exact = [sum(map(Fraction, column)) for column in vectors_UE.T[raised_E].tolist()]
    counts_E = task.evaluation.counts(probs_NC, y_N, patient_N)
    assert counts_E.dtype == np.float64
    assert [Fraction(count) for count in counts_E[raised_E].tolist()] == exact
    assert not counts_E[~raised_E].any()


@every_evaluation
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_counts_add_up_over_hospitals(case: Case, data: st.DataObject) -> None:
    task = case.build()
    probs_NC, y_N, patient_N = data.draw(scored(task))
    here_N = patient_N % 2 == 0
    halves = [
        task.evaluation.counts(probs_NC[mask_N], y_N[mask_N], patient_N[mask_N])
        for mask_N in (here_N, ~here_N)
    ]
    whole_E = task.evaluation.counts(probs_NC, y_N, patient_N)
    assert (halves[0] + halves[1] == whole_E).all()


def reach(name: str) -> tuple[float, float]:
    """Where a metric can lie."""
    if name.startswith(("effect", "difference")):
        return -1.0, 1.0
    if name.startswith("gap:difference"):
        return 0.0, 2.0
    return (0.125, 8.0) if name.startswith("temperature") else (0.0, 1.0)


@every_evaluation
@settings(max_examples=EXAMPLES)
@given(
    seed=st.integers(0, 2**32),
    size=st.sampled_from([0.0, 3.0, 1e5]),
    noise=st.sampled_from([0.0, 0.5, 40.0]),
)
def test_metrics_of_any_counts_are_ordered_and_within_their_range(
    case: Case, seed: int, size: float, noise: float
) -> None:
    evaluation = case.build().evaluation
    rng = np.random.default_rng(seed)
    counts_E = size * rng.random(evaluation.length) ** 4 + noise * rng.normal(
        size=evaluation.length
    )
    metrics = evaluation.metrics(counts_E, noise)
    if size == 0 and noise == 0:
        assert metrics == {}
    for name, metric in metrics.items():
        least, most = reach(name)
        assert least <= metric.low <= metric.value <= metric.high <= most
        assert all(type(number) is float for number in (metric.value, metric.low, metric.high))


@every_evaluation
def test_noise_widens_every_interval(case: Case) -> None:
    task = case.build()
    records = invented(task, 200)
    probs_NC = task.predict(random_weights(task), records.x_NF)
    # Every record a patient of its own: no bin estimate then differs by shares.
    seen_NC = beside(task.schema, probs_NC, records.x_NF)
    counts_E = task.evaluation.counts(seen_NC, records.y_N, np.arange(200))
    clean, noisy = task.evaluation.metrics(counts_E), task.evaluation.metrics(counts_E, 5.0)
    # Too few for a statement are fewer without noise.
    assert noisy.keys() <= clean.keys()
    assert {name for name in clean.keys() - noisy.keys() if not {"@", " "} & set(name)} == set()
    for name in noisy:
        assert noisy[name].high - noisy[name].low > clean[name].high - clean[name].low, name
        assert noisy[name].value == pytest.approx(clean[name].value, abs=1e-9)


@every_table_too
def test_options_are_strict(case: Case) -> None:
    named = Named(name=case.name, options={**case.options, "no_such_option": 1})
    with pytest.raises(InputError, match="no_such_option"):
        load_task(named, case.schema)


@every_table_too
def test_a_table_without_a_column_is_refused_by_name(case: Case) -> None:
    task = case.build()
    table: dict[str, list[str | float | None]] = {name: [] for name in task.schema.column_names}
    del table["crp"]
    with pytest.raises(InputError, match="crp"):
        task.records(table)


@every_table_too
def test_patients_are_numbered_in_order_of_first_appearance(case: Case) -> None:
    """Rows that are left out included: batches of a source are joined by these numbers."""
    task = case.build()
    if task.schema.patient is None:
        return
    values = known(task)
    label = values[task.schema.label.name][0]
    table: dict[str, list[str | float | None]] = {
        name: [None] * 5 for name in task.schema.column_names
    }
    table |= {name: [choices[0]] * 5 for name, choices in values.items()}
    table |= {
        task.schema.patient: ["c", "a", None, "c", "b"],
        task.schema.label.name: [label, "no such class", label, label, label],
    }
    records, _ = task.records(table)
    assert records.patient_N.tolist() == [0, 0, 2]
