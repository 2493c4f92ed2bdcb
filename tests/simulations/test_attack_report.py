from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from rich.console import Console

from protocol.errors import InputError
from simulations import attack_curves, attack_picture
from simulations.attack_records import to_picture
from simulations.attack_report import coloured, save, table
from simulations.attack_results import SEEDED_NOTE, Attacks
from simulations.picture import WARNING
from tests.simulations.attacked import BOTH, ENCRYPTION, NOISE, NONE
from tests.simulations.invented_attacks import RECORDS, invented, line

THREE = (
    line({NONE: RECORDS}),
    line({NONE: 2}, attack="matching"),
    line({NONE: 4, ENCRYPTION: 4}, attack="imprint", records=32, summed=4, colluders=1),
)


def shown(attacks: Attacks, width: int = 80) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(table(attacks))
    return console.export_text()


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


class TestTable:
    def test_has_a_line_for_each_attack_and_reader(self) -> None:
        lines = [
            " ".join(row.replace("│", " ").split()) for row in shown(invented(*THREE)).splitlines()
        ]
        assert "inversion 1 coordinator 100 % 0 % 0 % 0 %" in lines
        assert "matching 1 coordinator 25 % 0 % 0 % 0 %" in lines
        assert "imprint 4 x 32 + 1 hospital 50 % 0 % 50 % 0 %" in lines
        assert any(row.startswith("membership 60 coordinator 0.") for row in lines)

    def test_fits_a_terminal_of_80_characters(self) -> None:
        text = shown(invented(*THREE))
        assert max(len(row.rstrip()) for row in text.splitlines()) <= 80
        assert "…" not in text

    def test_says_the_verdict_and_every_note(self) -> None:
        text = " ".join(shown(invented(*THREE, seeded_noise=True)).split())
        assert "PASS: noise and encryption together" in text
        assert SEEDED_NOTE in text
        assert "matching of 1" in text

    def test_has_only_the_part_that_was_tried(self) -> None:
        records = shown(replace(invented(), told=()))
        assert "membership" not in records
        guesses = shown(replace(invented(), lines=()))
        assert "inversion" not in guesses
        assert "AUROC" in guesses

    def test_colours_follow_what_came_back(self) -> None:
        scores = line({NONE: RECORDS, NOISE: 1}).scores
        styles = [coloured(scores[one]).style for one in (NONE, NOISE, BOTH)]
        assert styles == ["bold red", "yellow", "green"]


class TestRecords:
    def test_shows_the_records_and_what_is_nearest_to_them(self) -> None:
        figure = attack_picture.draw(invented(*THREE))
        pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
        assert len(pictures) == len(THREE) * 5 * attack_picture.SHOWN
        first = attack_picture.examples(THREE[0])[0]
        truth = to_picture(THREE[0].truth_NF[first])
        assert np.array_equal(pictures[0], truth)
        assert np.array_equal(pictures[attack_picture.SHOWN], truth)
        assert not np.allclose(pictures[4 * attack_picture.SHOWN], truth)

    def test_examples_do_not_depend_on_what_came_back(self) -> None:
        assert attack_picture.examples(line({NONE: 1})) == attack_picture.examples(THREE[0])

    def test_says_in_words_and_colour_what_came_back(self) -> None:
        figure = attack_picture.draw(invented(*THREE))
        told = [text for text in figure.texts if text.get_text().endswith("came back")]
        assert len(told) == 12
        for text in told:
            safe = text.get_text() == "none came back"
            assert (to_hex(text.get_color()) == attack_picture.GOOD) == safe
        assert "4 x 32 records in what is read" in words(figure)
        assert "with 1 hospital" in words(figure)

    def test_a_fault_is_in_the_colour_of_warnings(self) -> None:
        figure = attack_picture.draw(invented(line({NONE: 8, BOTH: 8})))
        verdict = next(text for text in figure.texts if text.get_text().startswith("FAULT"))
        assert to_hex(verdict.get_color()) == WARNING

    def test_no_text_leaves_the_sheet_or_covers_a_picture(self) -> None:
        figure = attack_picture.draw(invented(*THREE, seeded_noise=True))
        check_layout(figure, figure.axes)


class TestCurves:
    def test_has_scores_and_detection_for_each_defence(self) -> None:
        figure = attack_curves.draw(invented())
        assert len(figure.axes) == 8
        texts = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert sum("≤ 0.69" in text for text in texts) == 2
        assert len(texts) == 4
        assert "noise, epsilon 3" in words(figure)

    def test_curves_are_detection_against_false_alarms(self) -> None:
        found = invented()
        chance, curve = attack_curves.draw(found).axes[1].lines
        rates = np.asarray(chance.get_xdata())
        expected = found.told[0].guesses[NONE].detected(rates)
        assert np.asarray(curve.get_ydata()) == pytest.approx(np.maximum(expected, rates[0]))

    def test_seeded_noise_is_said(self) -> None:
        assert SEEDED_NOTE in words(attack_curves.draw(invented(seeded_noise=True)))
        assert SEEDED_NOTE not in words(attack_curves.draw(invented()))

    def test_no_text_leaves_the_sheet_or_covers_a_panel(self) -> None:
        figure = attack_curves.draw(invented(seeded_noise=True))
        check_layout(figure, figure.axes)

    def test_scores_that_are_all_alike_can_be_drawn(self) -> None:
        found = invented()
        told = found.told[0]
        flat = replace(told.guesses[NONE], scores_MN=np.zeros_like(told.guesses[NONE].scores_MN))
        same = replace(found, told=(replace(told, guesses={NONE: flat}),))
        assert len(attack_curves.draw(same).axes) == 2


def check_layout(figure: Figure, panels: list[Axes]) -> None:
    """Every text of the figure lies on the sheet and on no panel."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = figure.bbox.width, figure.bbox.height
    boxes = [axes.get_window_extent(renderer) for axes in panels]
    for text in figure.texts:
        extent = text.get_window_extent(renderer)
        assert extent.x0 >= 0, text.get_text()
        assert extent.y0 >= 0, text.get_text()
        assert extent.x1 <= width, text.get_text()
        assert extent.y1 <= height, text.get_text()
        assert not any(extent.overlaps(box) for box in boxes), text.get_text()


class TestSave:
    def test_writes_numbers_and_pictures(self, tmp_path: Path) -> None:
        found = invented()
        saved = save(found, tmp_path / "a" / "b")
        assert [path.name for path in saved] == ["attacks.json", "records.png", "membership.png"]
        assert json.loads(saved[0].read_text()) == found.to_json()
        for path in saved[1:]:
            assert imread(BytesIO(path.read_bytes())).std() > 0.01

    def test_equal_results_give_equal_bytes(self, tmp_path: Path) -> None:
        one, other = (save(invented(), tmp_path / name) for name in ("a", "b"))
        assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]

    def test_writes_only_what_was_tried(self, tmp_path: Path) -> None:
        saved = save(replace(invented(), told=()), tmp_path)
        assert [path.name for path in saved] == ["attacks.json", "records.png"]
        saved = save(replace(invented(), lines=()), tmp_path)
        assert [path.name for path in saved] == ["attacks.json", "membership.png"]

    def test_a_folder_that_is_a_file_is_an_error(self, tmp_path: Path) -> None:
        place = tmp_path / "file"
        place.write_text("")
        with pytest.raises(InputError, match="cannot be written"):
            save(replace(invented(), told=(), lines=()), place)
