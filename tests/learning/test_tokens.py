"""Notes as numbers: spelling, the hash, n-grams, and columns of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learning.invented import invent
from learning.preprocess import features
from learning.schema import MOST_WORDS, Column, Label, Schema
from learning.task import Finding
from learning.tokens import PRIME, hashed, ngrams, word_number, words
from protocol.errors import InputError

ILL = Label(name="ill", classes=("no", "yes"))


def note(length: int = 3, **changes: Any) -> Column:
    return Column(name="note", kind="text", length=length, **changes)


def of(*columns: Column) -> Schema:
    return Schema(columns=columns, label=ILL)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Fever", "FEVER"),
        ("naïve", "nai\N{COMBINING DIAERESIS}ve"),
        ("Straße", "STRASSE"),
        ("ﬁbrillation", "fibrillation"),
        ("120/80", "999 11"),
        ("no-fever", "no fever."),
        ("No fever.\n\n- Chills", "no fever; chills"),
    ],
)
def test_spellings_of_one_word_are_one(one: str, other: str) -> None:
    assert list(words(one)) == list(words(other))


def test_words_of_other_scripts_keep_their_marks() -> None:
    assert list(words("बुखार नहीं")) == ["बुखार", "नहीं"]
    assert list(words("¿Fiebre? «no»")) == ["fiebre", "", "no"]


@given(st.lists(st.one_of(st.none(), st.text()), max_size=4), st.integers(1, 5))
def test_any_text_becomes_whole_numbers_of_its_own(texts: list[str | None], length: int) -> None:
    number_NL, cut_N = hashed(texts, length)
    assert number_NL.shape == (len(texts), length)
    assert ((number_NL >= 0) & (number_NL < PRIME) & (number_NL % 1 == 0)).all()
    for row, text in enumerate(texts):
        alone_1L, alone_1 = hashed([text], length)
        assert (alone_1L[0] == number_NL[row]).all()
        found = list(words(text or ""))
        assert (alone_1[0], len(found) > length) == (cut_N[row], cut_N[row])
        assert (number_NL[row] > 0).sum() == sum(map(bool, found[:length]))


def test_no_ngram_goes_from_one_sentence_into_the_next() -> None:
    word_NL = hashed(["No fever. Chills", "Dr. 7.5"], 4)[0].astype(np.int64)
    assert (word_NL > 0).tolist() == [[True, True, False, True], [True, False, True, False]]
    assert ngrams(word_NL, 2)[1].tolist() == [[True, False, False], [False] * 3]


def test_lone_surrogates_are_words_too() -> None:
    assert 0 < word_number("\ud800") < PRIME


def test_numbers_of_words_never_change() -> None:
    """A stored model would read other words: raise learning.preprocess.VERSION if they do."""
    assert [word_number(word) for word in ("fever", "00", "बुखार")] == [
        1664345707, 1654439676, 2039447560,
    ]  # fmt: skip


def test_ngrams_are_those_of_plain_arithmetic_and_the_same_in_torch() -> None:
    word_NL = np.random.default_rng(0).integers(1, PRIME, size=(4, 6))
    word_NL[1, 4:] = 0
    for order, start in ((1, 0), (2, 0), (3, 5)):
        number_NG, known_NG = ngrams(word_NL, order, start)
        again_NG, same_NG = ngrams(torch.from_numpy(word_NL), order, start)
        assert (again_NG.numpy() == number_NG).all()
        assert (same_NG.numpy() == known_NG).all()
        assert known_NG.sum(axis=1).tolist() == [7 - order, 5 - order, 7 - order, 7 - order]
        for row, place in np.ndindex(number_NG.shape):
            expected = start
            for word in word_NL[row, place : place + order].tolist():
                expected = (expected * 5**13 + word) % PRIME
            assert number_NG[row, place] == expected


def test_the_order_of_words_and_the_column_count() -> None:
    word_NL = hashed(["no fever", "fever no"], 2)[0].astype(np.int64)
    number_N1, _ = ngrams(word_NL, 2)
    assert number_N1[0] != number_N1[1]
    assert (ngrams(word_NL, 1, 1)[0] != ngrams(word_NL, 1)[0]).all()


def test_a_column_of_texts_counts_its_problems_and_says_no_word_of_them() -> None:
    x_NF, report = features(
        of(note(may_be_missing=True)), {"note": ["Fever", None, "a b c d", "...!", 7.0]}
    )
    fever, a, b, c, seven = (word_number(word) for word in ("fever", "a", "b", "c", "0"))
    assert x_NF.tolist() == [
        [fever, 0, 0, 0], [0, 0, 0, 1], [a, b, c, 0], [0, 0, 0, 1], [seven, 0, 0, 0],
    ]  # fmt: skip
    assert report.findings == (
        Finding("note", "missing", 1),
        Finding("note", "without words", 1),
        Finding("note", "cut off", 1),
    )


def test_words_that_were_read_elsewhere_are_taken_as_they_are() -> None:
    number_N4 = np.array([[5, 6, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4], [-1, PRIME + 3, 0, 0]])
    x_NF, report = features(of(note()), {"note": number_N4})
    assert x_NF.tolist() == [[5, 6, 0], [0, 0, 0], [1, 2, 3], [0, PRIME - 1, 0]]
    assert report.findings == (Finding("note", "missing", 1), Finding("note", "cut off", 1))
    for array in (np.zeros((4, 2)), np.zeros((4, 2, 2), dtype=np.int64)):
        with pytest.raises(InputError, match="text 'note' is an array"):
            features(of(note()), {"note": array})


def test_features_of_a_text_are_named_by_their_place() -> None:
    schema = of(note(2, may_be_missing=True), Column(name="f", kind="flag"))
    assert schema.feature_names == ("note[0]", "note[1]", "note missing", "f")
    assert schema.num_features == 4


def test_invented_texts_differ_in_length() -> None:
    x_NF = invent(of(note(9)), 200, np.random.default_rng(0))
    assert set((x_NF > 0).sum(axis=1).tolist()) == set(range(10))
    assert x_NF.max() < PRIME


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"kind": "text"}, "length of the text"),
        ({"kind": "text", "length": 0}, "length of the text"),
        ({"kind": "text", "length": MOST_WORDS + 1}, "length of the text"),
        ({"kind": "text", "length": 5, "neutral": 0}, "neutral of a text"),
        ({"kind": "text", "length": 5, "low": 0}, "belong to numbers"),
        ({"kind": "flag", "length": 5}, "a length belongs to columns of kind 'text'"),
    ],
)
def test_what_is_no_column_of_texts(written: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Column(name="note", **written)
