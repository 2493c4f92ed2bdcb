"""Memory of what lies between the passes, frozen layers' included: estimated, measured, bounded."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch

from privacy.engine import Engine, Unit, room
from privacy.gradients import bytes_per_record, values_per_record
from tests.privacy import frozen_encoder

RECORDS = 16
MEASURE = """
import sys
from pathlib import Path
import numpy as np, torch
import privacy.engine as engine
from tests.privacy.frozen_encoder import Encoder, inputs, loss
torch.set_num_threads(1)
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10
x, y = inputs(int(sys.argv[1]))
for limit in map(int, sys.argv[2:]):
    engine.ACTIVATIONS = limit
    subject = engine.Engine(Encoder(), loss, clip=1.0)
    subject.clipped_sum(x[:1], y[:1])
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    subject.clipped_sum(x, y)
    print(peak() - before)
"""


def grown(*limits: int) -> list[int]:
    """Bytes by which a fresh process grows in one sum under each limit of activations."""
    command = [sys.executable, "-c", MEASURE, str(RECORDS), *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def test_the_estimate_covers_the_measured_peak_and_bounds_it() -> None:
    x, _ = frozen_encoder.inputs(1)
    _, each = room(frozen_encoder.Encoder().double(), torch.from_numpy(x))
    # Four records at once first: what an earlier sum has left free would hide a later one's.
    bounded, whole = grown(4 * each, RECORDS * each)
    assert bounded < 4 * each
    assert RECORDS * each / 4 < whole < RECORDS * each


def test_frozen_layers_count_although_no_parameter_of_theirs_is_seen() -> None:
    model = frozen_encoder.Encoder().double()
    x = torch.from_numpy(frozen_encoder.inputs(1)[0])
    assert all("frozen" not in name for name, _ in model.named_parameters())
    attention = frozen_encoder.LAYERS * frozen_encoder.HEADS * frozen_encoder.LENGTH**2
    assert bytes_per_record(model, x) > 8 * (attention + values_per_record(model, x))


@pytest.mark.parametrize("unit", get_args(Unit))
def test_batches_of_one_add_up_by_groups_to_the_same_sum(
    unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = frozen_encoder.inputs(7)
    patient = np.array([0, 0, 1, 2, 2, 3, 4])

    def summed(sizes: list[int]) -> np.ndarray:
        torch.manual_seed(0)
        subject = Engine(frozen_encoder.Encoder(), frozen_encoder.loss, clip=0.1, unit=unit)
        subject.model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
        return subject.clipped_sum(x, y, patient)

    together, alone = list[int](), list[int]()
    whole = summed(together)
    monkeypatch.setattr("privacy.engine.ACTIVATIONS", 1)
    monkeypatch.setattr("privacy.engine.LEAST_BATCH", 3)
    by_one = summed(alone)
    assert together[2:] == [7]
    assert alone[2:] == [1] * 7
    np.testing.assert_allclose(by_one, whole, rtol=0, atol=1e-13)
    assert np.linalg.norm(whole) > 0.1
