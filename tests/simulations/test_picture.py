"""The picture: what is drawn is what was found."""

from __future__ import annotations

import io
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from simulations.picture import DPI, STYLES, WIDTH_IN, draw, picture
from simulations.results import Result, Row
from simulations.wording import ARMS
from tests.simulations.test_report import SEEDED, result


def _texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_every_model_is_a_dot_at_its_value() -> None:
    [axes] = draw(result()).axes
    dots = [one for one in axes.collections if isinstance(one, PathCollection)]
    drawn = [np.asarray(one.get_offsets())[:, 0].tolist() for one in dots]
    assert drawn == [
        [0.9, 0.92, 0.94, 0.96],
        [0.99, 0.992],
        [0.991, 0.993],
        [0.96, 0.98],
        [0.98, 0.99],
        [0.95, 0.97],
    ]


def test_bars_reach_one_standard_deviation() -> None:
    [axes] = draw(result()).axes
    first = axes.containers[0].get_children()[-1]
    [[start, end]] = first.get_segments()  # type: ignore[attr-defined]
    spread = np.std([0.9, 0.92, 0.94, 0.96], ddof=1)
    assert (start[0], end[0]) == pytest.approx((0.93 - spread, 0.93 + spread))


def test_arms_are_named_from_the_top() -> None:
    [axes] = draw(result()).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "each hospital alone",
        "all data in one place",
        "federated, in the clear",
        "private, noise on the sum, ε = 1",
        "private, noise on the sum, ε = 3",
        "private, noise at each hospital, ε = 1",
    ]
    bottom, top = axes.get_ylim()
    assert bottom > top


def test_everything_drawn_is_inside_the_picture() -> None:
    figure = draw(result(SEEDED, "a longer note that goes over the line's end " * 6))
    canvas = figure.bbox
    for text in [*figure.texts, *figure.axes[0].get_yticklabels(), *figure.axes[0].texts]:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= canvas.x1, text.get_text()
        assert box.y0 >= 0


def test_the_values_are_inside_the_axis() -> None:
    [axes] = draw(result()).axes
    low, high = axes.get_xlim()
    assert low < 0.9
    assert high > 0.993


def test_notes_are_in_the_picture_and_make_it_taller() -> None:
    plain, noted = draw(result()), draw(result(SEEDED))
    assert SEEDED in _texts(noted)
    assert SEEDED not in _texts(plain)
    assert noted.get_figheight() > plain.get_figheight()


def test_a_single_seed_needs_no_legend_of_bars() -> None:
    one = Result(
        name="x", rows=(Row(arm="clear", scores=(0.9,)),), delta=1e-5, seeds=(7,), hospitals=()
    )
    texts = _texts(draw(one))
    assert "seed 7" in texts
    assert "bar" not in texts
    assert "δ" not in texts


def test_dollars_in_a_name_are_no_formula() -> None:
    png = picture(replace(result("$x^$"), name="$x_$"))
    assert png == picture(replace(result("$x^$"), name="$x_$"))


def test_the_file_is_a_png_of_the_stated_width_and_not_empty() -> None:
    pixels = matplotlib.image.imread(io.BytesIO(picture(result())))
    assert pixels.shape[1] == round(WIDTH_IN * DPI)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50


def test_arms_differ_by_marker_too_for_who_sees_no_colours() -> None:
    assert set(STYLES) == set(ARMS)
    assert len({style.marker for style in STYLES.values()}) == len(STYLES)
    assert len({style.colour for style in STYLES.values()}) == len(STYLES)
