"""What the card's page draws: subgroups with their gap, and whether predictions come true."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from learning.card import ModelCard
from learning.card_page import page
from learning.task import Metric
from tests.learning.test_card import CARD

SEX = {"name": "sex", "kind": "category", "categories": ["f<m", "m", 3], "subgroup": True}
GOOD, BAD = Metric(0.9, 0.85, 0.95), Metric(0.7, 0.6, 0.8)
TOLD = {
    "auroc": GOOD,
    "auroc@sex=m": GOOD,
    "recall@sex=m": GOOD,
    "auroc@sex=3": BAD,
    "gap:auroc@sex": Metric(0.2, 0.0, 0.3),
}


def card(metrics: dict[str, Metric], column: dict[str, object] = SEX) -> ModelCard:
    return replace(CARD, schema={"columns": [column]}, metrics=metrics)


def plots(text: str) -> list[ElementTree.Element]:
    """Every plot, read as a strict program would; each stands in a line of its own."""
    lines = [line for line in text.splitlines() if line.startswith("<figure>")]
    return [ElementTree.fromstring(line)[0] for line in lines]  # noqa: S314 - our own page


def test_subgroups_have_a_table_a_gap_and_a_plot() -> None:
    text = page(card(TOLD))
    assert "| auroc | 0.900 | 0.850 | 0.950 |" in text
    assert "| gap:auroc@sex |" in text
    assert "auroc@sex=m" not in text.split("## By sex", maxsplit=1)[0]
    assert "**Largest difference in `auroc`: 0.200 (0.000 to 0.300).**" in text
    assert "| metric | f&lt;m | m | 3 |" in text
    assert "| auroc | too few | 0.900 (0.850 to 0.950) | 0.700 (0.600 to 0.800) |" in text
    assert "| recall | too few | 0.900 (0.850 to 0.950) | too few |" in text
    (plot,) = plots(text)
    assert plot.attrib["aria-label"] == "auroc by sex"
    words = "".join(plot.itertext())
    assert "f<m" in words
    assert "too few" in words
    assert len([one for one in plot.iter() if one.tag.endswith("circle")]) == 2


def test_what_is_of_too_few_says_so() -> None:
    nobody = page(card({"auroc": GOOD}, {"name": "icu", "kind": "flag", "subgroup": True}))
    assert "## By icu\n\nToo few patients in every subgroup" in nobody
    assert plots(nobody) == []
    one = page(card({"auroc": GOOD, "auroc@sex=m": GOOD}))
    assert "No gap is told" in one


def test_without_marks_and_curves_nothing_is_added() -> None:
    assert "<svg" not in page(CARD)
    assert "<svg" not in page(replace(card(TOLD), metrics={}))


def test_a_calibration_curve_is_drawn_for_each_class() -> None:
    found = {
        f"{name} {band}:{title}": metric
        for band, metric in (
            ("0.04-0.16", Metric(0.1, 0.08, 0.12)),
            ("0.50-0.68", Metric(0.6, 0.5, 0.7)),
        )
        for name in ("predicted", "observed")
        for title in ("ill & old", "well@home")
    }
    text = page(card({"auroc": GOOD, **found}, {"name": "age", "kind": "flag"}))
    assert "## Whether its predictions come true" in text
    assert "| observed" not in text
    first, second = plots(text)
    assert first.attrib["aria-label"] == "Calibration of ill & old"
    assert "0.04-0.16: predicted 0.100 (0.080 to 0.120)" in "".join(second.itertext())
    assert second.attrib["aria-label"] == "Calibration of well@home"


def test_forecasts_have_their_coverage_drawn() -> None:
    metrics = {
        "pinball": BAD,
        "coverage:0.1": GOOD,
        "coverage:0.9": GOOD,
        "coverage:0.9@ward=a": GOOD,
    }
    (plot,) = plots(page(card(metrics, {"name": "age", "kind": "flag"})))
    assert len([one for one in plot.iter() if one.tag.endswith("circle")]) == 2
