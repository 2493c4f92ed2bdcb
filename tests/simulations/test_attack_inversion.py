from __future__ import annotations

import numpy as np
import pytest

from protocol.tensors import Layout
from simulations.attack_inversion import first_layer, invert, ratios
from simulations.attack_records import PIXELS, invent
from simulations.attack_views import readings
from tests.simulations.attacked import NONE, bench, generator

NEURONS = 24
LAYOUT = Layout((("first.weight", (NEURONS, PIXELS)), ("first.bias", (NEURONS,)), ("rest", (3,))))


def gradient(record_F: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """What one record does to a dense layer: dz x' and dz."""
    rng = generator(1)
    dz_H = rng.normal(size=NEURONS)
    dz_H[::4] = 0.0
    clean_P = np.concatenate([np.outer(dz_H, record_F).ravel(), dz_H, np.ones(3)])
    return clean_P + noise * rng.normal(size=clean_P.size)


def nearest(record_F: np.ndarray, candidates_MF: np.ndarray) -> float:
    return float(np.linalg.norm(candidates_MF - record_F, axis=1).min())


def test_the_layer_is_cut_out_by_its_layout() -> None:
    weight_HF, bias_H = first_layer(LAYOUT, np.arange(float(LAYOUT.size)))
    assert weight_HF[1, 2] == PIXELS + 2
    assert bias_H[0] == NEURONS * PIXELS


def test_one_record_is_in_every_neuron_that_it_moves() -> None:
    record_F = invent(1, generator()).x_NF[0]
    found_MF = ratios(*first_layer(LAYOUT, gradient(record_F)))
    assert found_MF.shape == (NEURONS - NEURONS // 4, PIXELS)
    assert found_MF == pytest.approx(np.tile(record_F, (len(found_MF), 1)))


def test_the_fit_over_all_neurons_beats_single_ones_under_noise() -> None:
    record_F = invent(1, generator()).x_NF[0]
    noisy_P = gradient(record_F, noise=0.3)
    single = nearest(record_F, ratios(*first_layer(LAYOUT, noisy_P)))
    assert nearest(record_F, invert(LAYOUT, [noisy_P])) < 0.8 * single


def test_every_reading_gives_candidates() -> None:
    one, other = invent(2, generator()).x_NF
    found_MF = invert(LAYOUT, [gradient(one), gradient(other)])
    assert max(nearest(one, found_MF), nearest(other, found_MF)) < 1e-9


def test_a_gradient_of_nothing_gives_nothing() -> None:
    assert invert(LAYOUT, [np.zeros(LAYOUT.size)]).shape == (0, PIXELS)


def test_the_projects_first_round_shows_nothing_before_the_output() -> None:
    """Initial output weights are zero, which is why the attacks wait for the second round."""
    hospitals = bench(NONE, records=1)
    (read,) = readings(hospitals.exchange(hospitals.start()), "north")
    assert invert(hospitals.task.layout(), [read]).shape == (0, PIXELS)
