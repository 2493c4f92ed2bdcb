"""The page: self-contained, escaped, well formed, and saying what the table says."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from simulations.page import page
from simulations.results import HospitalSummary, Result, Row
from tests.simulations.test_report import SEEDED, result

PNG = b"\x89PNG not really"
VOID = {"meta", "img", "link", "br", "hr", "input"}
HOSTILE = "<script>alert('1')</script>\"&"


class _Reader(HTMLParser):
    """Tags, attributes and text, with a check that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and "style" not in self.open:
            self.text.append(data.strip())


def test_it_is_well_formed_and_loads_nothing() -> None:
    read = _Reader(page(result(SEEDED), PNG))
    assert read.open == []
    assert not {"script", "link", "iframe", "object", "a"} & set(read.tags)
    addresses = [value for name, value in read.attributes if name in ("src", "href", "srcset")]
    assert addresses == ["data:image/png;base64," + base64.b64encode(PNG).decode()]
    assert not re.search(r"url\(|@import|https?:", page(result(SEEDED), PNG))


@pytest.mark.parametrize("field", ["name", "note", "hospital", "arm", "digest"])
def test_every_text_is_escaped(field: str) -> None:
    shown = result()
    changed: dict[str, Result] = {
        "name": replace(shown, name=HOSTILE),
        "note": replace(shown, notes=(HOSTILE,)),
        "hospital": replace(
            shown,
            hospitals=(HospitalSummary(name=HOSTILE, train_size=1, test_size=1, positives=0.5),),
        ),
        "arm": replace(shown, rows=(Row(arm=HOSTILE, scores=(0.5,)),)),
        "digest": replace(shown, model_sha256=HOSTILE),
    }
    text = page(changed[field], PNG)
    read = _Reader(text)
    assert "script" not in read.tags
    assert HOSTILE in read.text
    assert "<script>" not in text


def test_it_says_what_was_found() -> None:
    read = _Reader(page(result(SEEDED), PNG))
    row = read.text.index("private, noise on the sum, ε = 3")
    assert read.text[row + 1 : row + 6] == ["3", "6.82", "0.985 ± 0.007", "250 ms", "228.9 kB"]
    assert read.text.count(SEEDED) == 1
    north = read.text.index("north")
    assert read.text[north + 1 : north + 4] == ["91", "23", "38%"]
    assert "c0ffee" in read.text
    assert any("2 virtual hospitals, 2 seeds (0 to 1)" in text for text in read.text)
    assert any("federated, in the clear +0.001 ± 0.000" in text for text in read.text)


def test_who_cannot_see_the_picture_hears_it() -> None:
    [words] = [v for name, v in _Reader(page(result(), PNG)).attributes if name == "alt"]
    assert words is not None
    assert "all data in one place: 0.991 ± 0.001" in words


def test_what_there_is_not_is_not_mentioned() -> None:
    bare = Result(name="x", rows=(Row(arm="pooled", scores=(0.9,)),), delta=1e-5, seeds=(0,))
    text = " ".join(_Reader(page(bare, PNG)).text)
    assert "δ" not in text
    assert "Last model" not in text
    assert "Virtual hospitals at" not in text
    assert "federated" not in text
    assert "Against" not in text
