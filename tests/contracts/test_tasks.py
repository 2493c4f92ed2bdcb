"""One suite over every installed task: what learning.task.Task promises."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learning.networks import set_weights
from learning.task import (
    Cells,
    FloatArray,
    FloatVector,
    Records,
    Table,
    Task,
    installed,
    load_task,
)
from learning.trainer import PlainGradient, train
from protocol.errors import InputError
from protocol.jobs import Named
from tests.contracts.cases import (
    ALL,
    CASES,
    EXAMPLES,
    Case,
    every_case,
    every_table_too,
    invented,
    random_weights,
)


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
