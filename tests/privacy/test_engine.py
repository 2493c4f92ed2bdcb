from __future__ import annotations

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from privacy.engine import MARGIN, Clipping, Engine
from privacy.gradients import values_per_record
from protocol.errors import InputError
from tests.privacy import zoo
from tests.privacy.zoo import Array, cross_entropy

BOTH = ("onepass", "hooks")
EACH = [(name, clipping) for name in zoo.MODELS for clipping in BOTH] + [
    (name, "ghost") for name in zoo.GHOST
]


def engine(name: str, clipping: Clipping = "auto", **settings: object) -> Engine:
    keywords = {"clip": 1.0, **settings}
    return Engine(zoo.build(name), cross_entropy, clipping=clipping, **keywords)  # type: ignore[arg-type]


def off(got: Array, expected: Array) -> float:
    """Relative error."""
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def median_norm(name: str, x: Array, y: Array) -> float:
    """A clip that some records exceed and others do not."""
    return float(
        np.median(np.linalg.norm(zoo.gradients(zoo.build(name), cross_entropy, x, y), axis=1))
    )


@pytest.mark.parametrize(("name", "clipping"), EACH)
def test_sum_equals_gradients_taken_one_record_at_a_time(name: str, clipping: Clipping) -> None:
    x, y = zoo.records(name, 9)
    clip = median_norm(name, x, y)
    rows = zoo.gradients(zoo.build(name), cross_entropy, x, y)
    norms = np.linalg.norm(rows, axis=1)
    assert (norms > clip).any()
    assert (norms < clip).any()
    got = engine(name, clipping, clip=clip).clipped_sum(x, y)
    assert off(got, zoo.clipped(rows, clip)) < 1e-12


@pytest.mark.parametrize("name", zoo.MODELS)
@pytest.mark.parametrize("clipping", BOTH)
def test_a_patients_rows_are_summed_before_they_are_clipped(name: str, clipping: Clipping) -> None:
    x, y = zoo.records(name, 9)
    patient = np.array([4, 2, 4, 9, 2, 2, 2, 7, 4])
    rows = zoo.gradients(zoo.build(name), cross_entropy, x, y)
    for max_batch in (3, 5, 100):  # 3: the patient with four rows spans batches
        subject = engine(name, clipping, unit="patient", max_batch=max_batch)
        assert off(subject.clipped_sum(x, y, patient), zoo.clipped(rows, 1.0, patient)) < 1e-12


def test_patients_with_one_row_each_cost_no_more_than_records() -> None:
    x, y = zoo.records("mlp", 6)
    patients = engine("mlp", unit="patient").clipped_sum(x, y, np.array([5, 3, 1, 0, 2, 4]))
    assert off(patients, engine("mlp").clipped_sum(x, y)) < 1e-12


@pytest.mark.parametrize("max_batch", [3, 100])
def test_a_patient_with_ten_rows_moves_the_sum_by_at_most_the_clip(max_batch: int) -> None:
    x, y = zoo.records("mlp", 30)
    x *= 50
    patient = np.concatenate([np.zeros(10, dtype=np.int64), np.arange(1, 21)])
    subject = engine("mlp", unit="patient", clip=0.5, max_batch=max_batch)
    everyone = subject.clipped_sum(x, y, patient)
    without = subject.clipped_sum(x, y, patient, patient != 0)
    moved = np.linalg.norm(everyone - without)
    assert 0.5 * (1 - 2 * MARGIN) < moved <= 0.5


@pytest.mark.parametrize(("name", "clipping"), EACH)
def test_removing_any_record_moves_the_sum_by_at_most_the_clip(
    name: str, clipping: Clipping
) -> None:
    x, y = zoo.records(name, 6)
    if x.dtype == np.float64:
        x = x * np.array([1, 1e3, 1e-3, 1e6, 1, 10]).reshape(-1, *[1] * (x.ndim - 1))
    subject = engine(name, clipping, clip=0.01)
    everyone = subject.clipped_sum(x, y)
    rest = [subject.clipped_sum(x, y, None, np.arange(6) != left_out) for left_out in range(6)]
    moved = [float(np.linalg.norm(everyone - without)) for without in rest]
    assert max(moved) <= 0.01
    assert sum(moved) > 0.03  # most were cut, none by more than the margin


@given(
    scales=st.lists(st.floats(-1e200, 1e200), min_size=4, max_size=4),
    clip=st.floats(1e-3, 1e3),
    left_out=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_no_value_moves_the_sum_by_more_than_the_clip(
    scales: list[float], clip: float, left_out: int
) -> None:
    x, y = zoo.records("mlp", 4)
    with np.errstate(over="ignore"):
        x = x * np.array(scales)[:, None]
    subject = engine("mlp", clip=clip)
    everyone = subject.clipped_sum(x, y)
    without = subject.clipped_sum(np.delete(x, left_out, 0), np.delete(y, left_out))
    assert np.isfinite(everyone).all()
    assert np.linalg.norm(everyone - without) <= clip


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e300])
@pytest.mark.parametrize(
    ("name", "clipping"), [pair for pair in EACH if zoo.MODELS[pair[0]][2] is None]
)
def test_a_bad_value_in_one_record_changes_nothing_else(
    name: str, clipping: Clipping, value: float
) -> None:
    x, y = zoo.records(name, 5)
    subject = engine(name, clipping)
    good = np.arange(5) != 2
    others = subject.clipped_sum(x[good], y[good])
    x[2].flat[0] = value
    own = subject.clipped_sum(x[2:3], y[2:3])
    if not np.isfinite(value):
        assert not own.any()
    assert np.linalg.norm(own) <= 1
    assert np.linalg.norm(subject.clipped_sum(x, y) - (others + own)) <= 1e-12 * len(own)


@pytest.mark.parametrize("clipping", get_args(Clipping))
def test_a_batch_of_nothing_but_bad_records_sums_to_zero(clipping: Clipping) -> None:
    x, y = zoo.records("mlp", 3)
    assert not engine("mlp", clipping).clipped_sum(x * np.nan, y).any()


@pytest.mark.parametrize("max_batch", [2, 100])
def test_a_bad_row_leaves_the_patients_other_rows(max_batch: int) -> None:
    x, y = zoo.records("mlp", 4)
    patient = np.array([1, 1, 1, 2])
    subject = engine("mlp", unit="patient", max_batch=max_batch)
    kept = np.array([True, False, True, True])
    expected = subject.clipped_sum(x[kept], y[kept], patient[kept])
    x[1, 0] = np.nan
    assert off(subject.clipped_sum(x, y, patient), expected) < 1e-12


def test_an_embeddings_bad_row_is_dropped() -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return output.sum(1) * torch.where(target == 9, torch.nan, 1.0)

    x, y = zoo.records("embedding", 4)
    subject = Engine(zoo.build("embedding"), loss, clip=1.0)
    expected = subject.clipped_sum(x[1:], y[1:])
    y[0] = 9
    assert off(subject.clipped_sum(x, y), expected) < 1e-12


@pytest.mark.parametrize("clipping", get_args(Clipping))
def test_an_empty_selection_is_a_sum_of_nothing(clipping: Clipping) -> None:
    x, y = zoo.records("mlp", 5)
    subject = engine("mlp", clipping)
    nothing = subject.clipped_sum(x, y, None, np.zeros(5, dtype=np.bool_))
    assert nothing.shape == (subject.length,)
    assert not nothing.any()
    assert not subject.clipped_sum(x[:0], y[:0]).any()


def test_an_empty_selection_of_patients_is_a_sum_of_nothing() -> None:
    x, y = zoo.records("mlp", 5)
    subject = engine("mlp", unit="patient")
    assert not subject.clipped_sum(x, y, np.arange(5), np.zeros(5, dtype=np.bool_)).any()
    assert not subject.clipped_sum(x[:0], y[:0], np.arange(0)).any()


@pytest.mark.parametrize(("name", "clipping"), EACH)
def test_virtual_batches_change_nothing(name: str, clipping: Clipping) -> None:
    x, y = zoo.records(name, 11)
    whole = engine(name, clipping, max_batch=11).clipped_sum(x, y)
    for max_batch in (1, 4, 10):
        assert off(engine(name, clipping, max_batch=max_batch).clipped_sum(x, y), whole) < 1e-12


MEASURE = """
import sys
from pathlib import Path
import numpy as np, torch
from privacy.engine import Engine
torch.set_num_threads(1)
nn = torch.nn
model = nn.Sequential(nn.Conv1d(4, 100, 100), nn.Flatten(), nn.Linear(100, 2))
loss = lambda out, y: nn.functional.cross_entropy(out, y, reduction="none")
count = int(sys.argv[1])
x, y = np.ones((count, 4, 100)), np.zeros(count, dtype=np.int64)
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])
for max_batch in map(int, sys.argv[2:]):
    engine = Engine(model, loss, clip=1.0, max_batch=max_batch)
    engine.clipped_sum(x[:1], y[:1])
    # The peak that a process starts with is that of whoever started it: begin anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    engine.clipped_sum(x, y)
    print(peak() - before)
"""


def peaks_mib(count: int, *max_batches: int) -> list[float]:
    """How much a process grows during sums in batches of each size, measured in a fresh one."""
    command = [sys.executable, "-c", MEASURE, str(count), *map(str, max_batches)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) / 1024 for line in done.stdout.split()]


def test_virtual_batches_bound_the_memory() -> None:
    # One record's gradient of 40,302 numbers takes 0.31 MiB: 1,000 records take 307 MiB, less what
    # the imports have left free.
    small, whole = peaks_mib(1000, 20, 1000)
    assert whole > 200
    assert small < 40


@pytest.mark.parametrize("clipping", get_args(Clipping))
def test_frozen_parameters_are_zero_and_do_not_count(clipping: Clipping) -> None:
    model = zoo.build("mlp")
    model[0].weight.requires_grad_(False)  # type: ignore[index]
    model[2].bias.requires_grad_(False)  # type: ignore[index]
    x, y = zoo.records("mlp", 6)
    rows = zoo.gradients(model, cross_entropy, x, y)
    clip = float(np.median(np.linalg.norm(rows, axis=1)))
    subject = Engine(model, cross_entropy, clip=clip, clipping=clipping)
    got = subject.clipped_sum(x, y)
    assert not got[:24].any()
    assert subject.length == len(got) == 24 + 6 + 12 + 18
    assert off(got, zoo.clipped(rows, clip)) < 1e-12


def test_a_frozen_bias_leaves_the_weight() -> None:
    with zoo.seeded():
        model = nn.Linear(3, 2).double()
    model.bias.requires_grad_(False)
    x, y = np.array([[1.0, 2, 3], [3, -1, 2]]), np.array([0, 1])
    patients = np.array([0, 0])
    rows = zoo.gradients(model, cross_entropy, x, y)
    assert (
        off(Engine(model, cross_entropy, clip=0.1).clipped_sum(x, y), zoo.clipped(rows, 0.1))
        < 1e-12
    )
    subject = Engine(model, cross_entropy, clip=0.1, unit="patient")
    expected = zoo.clipped(rows, 0.1, patients)
    assert off(subject.clipped_sum(x, y, patients), expected) < 1e-12


@pytest.mark.parametrize("clipping", get_args(Clipping))
def test_nothing_stays_at_the_model(clipping: Clipping) -> None:
    subject = engine("plain_cnn", clipping)
    x, y = zoo.records("plain_cnn", 4)
    first = subject.clipped_sum(x, y)
    for module in subject.model.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
        assert not module._forward_pre_hooks
        assert not hasattr(module, "activations")
    for parameter in subject.model.parameters():
        assert parameter.grad is None
        assert not hasattr(parameter, "grad_sample")
    np.testing.assert_array_equal(first, subject.clipped_sum(x, y))


@pytest.mark.parametrize("clipping", get_args(Clipping))
def test_the_callers_training_mode_and_gradient_mode_do_not_matter(clipping: Clipping) -> None:
    x, y = zoo.records("mlp", 4)
    expected = engine("mlp", clipping).clipped_sum(x, y)
    model = zoo.build("mlp").eval()
    with torch.no_grad():
        got = Engine(model, cross_entropy, clip=1.0, clipping=clipping).clipped_sum(x, y)
    np.testing.assert_array_equal(got, expected)


def test_activations_in_place_are_differentiated_rightly() -> None:
    with zoo.seeded():
        layers = (nn.Linear(4, 6), nn.ReLU(inplace=True), nn.LayerNorm(6), nn.ELU(inplace=True))
        model = nn.Sequential(*layers, nn.Linear(6, 3)).double()
    x, y = zoo.records("mlp", 6)
    rows = zoo.gradients(model, cross_entropy, x, y)
    assert (
        off(Engine(model, cross_entropy, clip=0.5).clipped_sum(x, y), zoo.clipped(rows, 0.5))
        < 1e-12
    )


def test_weights_are_loaded_in_the_order_of_the_sum() -> None:
    x, y = zoo.records("gru", 5)
    subject, other = engine("gru"), zoo.build("gru")
    weights = np.random.Generator(np.random.PCG64(3)).normal(size=subject.length)
    subject.load(weights)
    start = 0
    for _, parameter in other.named_parameters():
        part = weights[start : start + parameter.numel()].reshape(parameter.shape)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(part))
        start += parameter.numel()
    rows = zoo.gradients(other, cross_entropy, x, y)
    assert off(subject.clipped_sum(x, y), zoo.clipped(rows, 1.0)) < 1e-12
    with pytest.raises(InputError, match=f"expected {subject.length}"):
        subject.load(weights[1:])


def test_inputs_in_single_precision_are_computed_in_double() -> None:
    x, y = zoo.records("mlp", 4)
    x32 = x.astype(np.float32)
    got = engine("mlp").clipped_sum(x32, y)
    np.testing.assert_array_equal(got, engine("mlp").clipped_sum(x32.astype(np.float64), y))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip": 0.0}, "clip; expected"),
        ({"clip": float("nan")}, "clip; expected"),
        ({"clip": float("inf")}, "clip; expected"),
        ({"max_batch": 0}, "max_batch; expected"),
        ({"clipping": "ghost", "unit": "patient"}, "not of patients"),
    ],
)
def test_settings_without_a_guarantee_are_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        engine("mlp", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("clipping", get_args(Clipping))
def test_a_loss_that_is_not_per_record_is_refused(clipping: Clipping) -> None:
    x, y = zoo.records("mlp", 4)

    def column(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target)[:, None]

    for loss, shape in ((column, r"\(B, 1\)"), (nn.CrossEntropyLoss(), r"\(\)")):
        subject = Engine(zoo.build("mlp"), loss, clip=1.0, clipping=clipping)
        with pytest.raises(InputError, match=f"found shape {shape}"):
            subject.clipped_sum(x, y)


def test_a_loss_without_parameters_is_refused() -> None:
    x, y = zoo.records("mlp", 4)
    subject = Engine(zoo.build("mlp"), lambda _, target: target * 1.0, clip=1.0)
    with pytest.raises(InputError, match="does not depend"):
        subject.clipped_sum(x, y)


def test_only_arrays_of_one_length_are_taken() -> None:
    x, y = zoo.records("mlp", 4)
    subject = engine("mlp")
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    sampler = torch.utils.data.WeightedRandomSampler([1.0, 2.0, 1.0, 1.0], 4)
    loader = torch.utils.data.DataLoader(dataset, sampler=sampler)
    for bad in (loader, x.astype(object), np.float64(3), torch.from_numpy(x)):
        with pytest.raises(InputError, match="'x' is not an array of numbers"):
            subject.clipped_sum(bad, y)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="differ in length"):
        subject.clipped_sum(x, y[1:])
    with pytest.raises(InputError, match="one bool per record"):
        subject.clipped_sum(x, y, None, np.array([0, 1, 2, 3]))


def test_patients_are_sampled_whole() -> None:
    x, y = zoo.records("mlp", 4)
    subject = engine("mlp", unit="patient")
    with pytest.raises(InputError, match="no patient column"):
        subject.clipped_sum(x, y)
    with pytest.raises(InputError, match="one integer per record"):
        subject.clipped_sum(x, y, np.array([0.5, 1, 2, 3]))
    with pytest.raises(InputError, match="in part"):
        subject.clipped_sum(x, y, np.array([0, 0, 1, 1]), np.array([True, False, True, True]))


def test_a_message_never_tells_how_many_records_there_are() -> None:
    x, y = zoo.records("mlp", 37)
    subject = Engine(zoo.build("mlp"), lambda out, _: out, clip=1.0)
    with pytest.raises(InputError) as caught:
        subject.clipped_sum(x, y)
    assert "37" not in str(caught.value)
    with pytest.raises(InputError) as caught:
        engine("mlp").clipped_sum(x, y[:-1])
    assert "37" not in str(caught.value)
    assert "36" not in str(caught.value)


def test_only_as_many_records_go_together_as_stay_in_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = zoo.records("mlp", 11)
    whole = engine("mlp").clipped_sum(x, y)
    subject, sizes = engine("mlp"), list[int]()
    subject.model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    each = values_per_record(subject.model, torch.from_numpy(x))
    monkeypatch.setattr("privacy.engine.CACHED", 4 * each)
    monkeypatch.setattr("privacy.engine.LEAST_BATCH", 2)
    assert values_per_record(subject.model, torch.from_numpy(x[:0])) == each
    sizes.clear()
    assert off(subject.clipped_sum(x, y), whole) < 1e-12
    assert sizes == [1, 1, 4, 4, 3]  # what one takes first: values, and bytes
    subject.clipped_sum(x[:5], y[:5])
    assert sizes[5:] == [4, 1]
    monkeypatch.setattr("privacy.engine.LEAST_BATCH", 5)
    fresh = engine("mlp")
    fresh.model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    fresh.clipped_sum(x, y)
    assert sizes[7:] == [1, 1, 5, 5, 1]


def test_only_as_many_rows_of_patients_go_together_as_stay_in_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = zoo.records("mlp", 9)
    patient = np.array([0, 0, 1, 1, 1, 1, 1, 1, 2])
    whole = engine("mlp", unit="patient").clipped_sum(x, y, patient)
    subject, sizes = engine("mlp", unit="patient"), list[int]()
    monkeypatch.setattr("privacy.engine.CACHED", 1)
    monkeypatch.setattr("privacy.engine.LEAST_BATCH", 4)
    subject.model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    assert off(subject.clipped_sum(x, y, patient), whole) < 1e-12
    # What one takes, twice; patient 0, patient 1 in parts, patient 2.
    assert sizes == [1, 1, 2, 4, 2, 1]


def test_measuring_a_model_takes_nothing_from_the_generator_of_its_dropout() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).double()
    before = torch.get_rng_state()
    values_per_record(model, torch.zeros(2, 4, dtype=torch.float64))
    assert torch.equal(torch.get_rng_state(), before)
