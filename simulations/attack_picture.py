"""The picture of attacks on records: what there was, and what came back behind each defence."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from simulations.attack_jobs import Defence
from simulations.attack_records import FloatArray, to_picture
from simulations.attack_results import Attacks, Line
from simulations.attack_score import share_text
from simulations.output import png
from simulations.picture import DPI, INK, QUIET, RULE, WARNING

GOOD = "#00694d"
SHOWN = 2
"""Records of each line that are shown: its first ones, chosen before anything came back."""
PICTURE_IN, GAP_IN, CELL_GAP_IN = 0.44, 0.05, 0.2
LABEL_IN, MARGIN_IN, HEAD_IN, ROW_IN = 1.72, 0.32, 1.52, 0.86
FOOT_IN, FOOT_LINE_IN = 0.42, 0.2
NAMES = {
    "inversion": "dense layer inverted",
    "matching": "gradient matched",
    "imprint": "layer planted",
}
HEADS = {"none": "no defence", "noise": "noise", "encryption": "encryption", "both": "both"}


def picture(attacks: Attacks) -> bytes:
    """The picture as the bytes of a PNG file; equal results give equal bytes."""
    return png(draw(attacks), DPI)


def draw(attacks: Attacks) -> Figure:
    """The picture as a figure, outside pyplot's global state."""
    sheet = _Sheet(attacks)
    sheet.write_heads()
    for row, line in enumerate(attacks.lines):
        sheet.write_line(row, line)
    return sheet.figure


class _Sheet:
    """Places in inches from the upper left corner."""

    def __init__(self, attacks: Attacks) -> None:
        self._attacks = attacks
        self._defences: tuple[Defence, ...] = tuple(attacks.lines[0].scores)
        self._foot = _foot(attacks)
        self._cell_in = SHOWN * PICTURE_IN + (SHOWN - 1) * GAP_IN
        step_in = self._cell_in + CELL_GAP_IN
        self._lefts_in = [
            MARGIN_IN + LABEL_IN + column * step_in for column in range(1 + len(self._defences))
        ]
        self._width_in = self._lefts_in[-1] + self._cell_in + MARGIN_IN
        feet_in = FOOT_IN + FOOT_LINE_IN * len(self._foot)
        self._height_in = HEAD_IN + ROW_IN * len(attacks.lines) + feet_in
        self.figure = Figure(figsize=(self._width_in, self._height_in), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def write_heads(self) -> None:
        """Title, verdict, what each column is, and the foot."""
        attacks = self._attacks
        self._write(MARGIN_IN, 0.38, "Records that attacks get back", 14, weight="bold")
        colour = GOOD if attacks.passed else WARNING
        columns = int(self._width_in * 12.2)
        verdict = textwrap.shorten(attacks.verdict, 2 * columns, placeholder=" ...")
        for number, text in enumerate(textwrap.wrap(verdict, columns)):
            self._write(MARGIN_IN, 0.68 + 0.19 * number, text, 9.5, colour)
        self._write(self._lefts_in[0], HEAD_IN - 0.26, "the records", 9.5, weight="bold")
        for left_in, defence in zip(self._lefts_in[1:], self._defences, strict=True):
            self._write(left_in, HEAD_IN - 0.26, HEADS[defence.kind], 9.5, weight="bold")
            if defence.epsilon is not None:
                self._write(left_in, HEAD_IN - 0.08, f"epsilon {defence.epsilon:g}", 8.5, QUIET)
        top_in = HEAD_IN + ROW_IN * len(attacks.lines) + 0.28
        for number, text in enumerate(self._foot):
            self._write(MARGIN_IN, top_in + number * FOOT_LINE_IN, text, 8.5, QUIET)

    def write_line(self, row: int, line: Line) -> None:
        """One attack: its name, the records, and the nearest that came back."""
        top_in = HEAD_IN + row * ROW_IN + 0.06
        self._write(MARGIN_IN, top_in + 0.14, NAMES[line.attack], 9.5, weight="bold")
        detail = f"{line.amount} records" if line.amount != "1" else "1 record"
        self._write(MARGIN_IN, top_in + 0.3, f"{detail} in what is read", 8, QUIET)
        self._write(MARGIN_IN, top_in + 0.45, _reader(line), 8, QUIET)
        chosen = examples(line)
        self._pictures(self._lefts_in[0], top_in, line.truth_NF[chosen])
        for left_in, defence in zip(self._lefts_in[1:], self._defences, strict=True):
            score = line.scores[defence]
            self._pictures(left_in, top_in, score.nearest_NF[chosen])
            colour = WARNING if score.hits else GOOD
            text = f"{share_text(score)} came back" if score.hits else "none came back"
            self._write(left_in, top_in + PICTURE_IN + 0.16, text, 8, colour)

    def _pictures(self, left_in: float, top_in: float, records_NF: FloatArray) -> None:
        for place, record_F in enumerate(records_NF):
            axes = self.figure.add_axes(
                (
                    (left_in + place * (PICTURE_IN + GAP_IN)) / self._width_in,
                    1 - (top_in + PICTURE_IN) / self._height_in,
                    PICTURE_IN / self._width_in,
                    PICTURE_IN / self._height_in,
                )
            )
            axes.imshow(to_picture(record_F), cmap="gray", vmin=0.0, vmax=1.0)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(RULE)

    def _write(
        self,
        left_in: float,
        top_in: float,
        text: str,
        size: float,
        colour: str = INK,
        *,
        weight: str = "normal",
    ) -> None:
        self.figure.text(
            left_in / self._width_in,
            1 - top_in / self._height_in,
            text,
            fontsize=size,
            color=colour,
            weight=weight,
            va="baseline",
            parse_math=False,
        )


def examples(line: Line) -> list[int]:
    """Which records are shown: the same for every defence, spread over all, not chosen by looks."""
    chosen = np.linspace(0, len(line.truth_NF) - 1, SHOWN)
    return [int(index) for index in chosen]


def _reader(line: Line) -> str:
    if not line.colluders:
        return "by the coordinator"
    return f"with {line.colluders} hospital{'s' if line.colluders > 1 else ''}"


def _foot(attacks: Attacks) -> list[str]:
    config = attacks.config
    return [
        "Invented pictures. Shown is what the attacker has that is nearest to the record.",
        f"{config.name}: {config.hospitals} hospitals, mode {config.mode}, δ = {config.delta:g}",
        *attacks.notes,
    ]
