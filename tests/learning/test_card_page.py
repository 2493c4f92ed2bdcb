"""A card as a page: everything that a person must know is on it."""

from __future__ import annotations

from dataclasses import replace

from learning.card import Guarantee
from learning.card_page import page
from tests.learning.test_card import CARD


def test_the_page_tells_use_inputs_quality_privacy_and_digests() -> None:
    text = page(CARD)
    for told in (
        "# Model sepsis-2/3", "Research only", "| age | number |  | 0.1 | 120 |",
        "| auroc | 0.333 | 0.100 | 0.500 |", "as stated by the job: 0.3", "d" * 64,
    ):  # fmt: skip
        assert told in text
    assert "colluded" not in text


def test_a_model_without_protection_or_evaluation_says_so() -> None:
    card = replace(CARD, metrics={}, privacy=Guarantee(mode="none", unit="record", delta=1e-5))
    assert "**Nobody:**" in page(card)
    assert "Nothing was evaluated" in page(card)


def test_a_columns_name_does_not_break_the_table() -> None:
    card = replace(CARD, schema={"columns": [{"name": "a|b\nc", "kind": "flag"}]})
    assert r"| a\|b c | flag |" in page(card)


def test_what_moves_the_model_is_ranked_and_said_to_be_of_no_patient() -> None:
    assert "What moves it" not in page(CARD)
    text = page(replace(CARD, importance={"age": 0.125, "crp": 0.9}))
    assert text.index("| crp | 90.0% |") < text.index("| age | 12.5% |")
    assert "no patient was asked" in text
