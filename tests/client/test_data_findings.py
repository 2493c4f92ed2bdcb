"""How findings are counted, and the page that shows them."""

from __future__ import annotations

import json
import re
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.data.findings import ColumnProfile
from client.data.inspection import Inspection, inspect
from client.data.report import save_page
from client.data_check import LOCAL, data_check
from learning.task import load_task
from protocol.errors import InputError
from protocol.jobs import Named
from tests.client.checked import ROWS, SECRET, WARD, Ward, ward_cells
from tests.dicom import image, save


def test_few_rows_tell_nothing() -> None:
    schema = {"columns": [{"name": "x", "kind": "flag"}], "label": {"name": "y", "classes": [0, 1]}}
    task = load_task(Named(name="diagnosis", options={}), schema)
    for rows, verdict in ((9, "ok"), (10, "tells the label?")):
        table = {"x": [0] * rows + [1] * rows, "y": [0] * rows + [1] * rows}
        assert inspect(task, table).columns[0].verdict == verdict


def test_a_target_may_tell_the_label() -> None:
    """Whoever is alive was followed to the end; nothing is wrong with such a study."""
    schema = {
        "columns": [{"name": "age", "kind": "number", "low": 0, "high": 120}],
        "label": {"name": "died", "classes": ["no", "yes"]},
        "targets": [{"name": "months", "kind": "number", "low": 0, "high": 24}],
    }
    task = load_task(Named(name="survival", options={"intervals": 4}), schema)
    table: dict[str, Any] = {
        "age": [*range(40, 60)] * 2, "died": ["no"] * 20 + ["yes"] * 20,
        "months": [24] * 20 + [*range(20)],
    }  # fmt: skip
    profile = inspect(task, table)
    assert {one.name: one.verdict for one in profile.columns} == dict.fromkeys(table, "ok")
    leaky = inspect(task, {**table, "age": [40] * 20 + [50] * 20})
    assert leaky.columns[0].verdict == "tells the label?"


@pytest.mark.parametrize(("most", "verdict"), [(0, "ok"), (4, "ok"), (5, "two patients?")])
def test_scores_of_a_few_points_are_no_fingerprints(most: int, verdict: str) -> None:
    names = [f"score{place}" for place in range(12)]
    schema = {
        "columns": [{"name": name, "kind": "number", "low": 0, "high": 10} for name in names],
        "label": {"name": "ill", "classes": ["no", "yes"]},
        "patient": "case",
    }
    task = load_task(Named(name="diagnosis", options={}), schema)
    table: dict[str, Any] = {name: [place % (most + 1)] * 4 for place, name in enumerate(names)}
    table |= {"ill": ["no", "yes"] * 2, "case": ["a", "b", "c", "c"]}
    (found,) = (one for one in inspect(task, table).columns if one.name == "case")
    assert found.verdict == verdict


def test_notes_are_counted_and_never_shown() -> None:
    schema: dict[str, Any] = {
        "columns": [{"name": "note", "kind": "text", "length": 3}],
        "label": {"name": "ill", "classes": ["no", "yes"]},
    }
    task = load_task(Named(name="diagnosis", options={}), schema)
    labels = ["no", "yes"] * 3
    for notes, verdict, remedy in (
        (["no fever"] * 6, "ok", ""),
        (["no fever"] * 5 + ["Zaphod came in coughing"], "clamped", "after the first 3"),
        (["no fever"] * 5 + ["???"], "replaced", "no note"),
        (["no fever"] * 5 + [""], "replaced", "may_be_missing"),
    ):
        profile = inspect(task, {"note": notes, "ill": labels}).columns[0]
        assert profile.verdict == verdict
        assert remedy in profile.remedy
        assert "Zaphod" not in repr(profile)
        assert profile.bars == ()


def test_batches_are_counted_as_one_table() -> None:
    task = load_task(Named(name="diagnosis", options={}), WARD)
    labels = ward_cells()["ill"]
    table = {**ward_cells(), "glucose": ["90"] * 30 + [""] * 30, "smoker": labels}
    whole = inspect(task, table)
    for size in (1, 7, 59):
        inspection = Inspection(task)
        for start in range(0, ROWS, size):
            inspection.add({name: cells[start : start + size] for name, cells in table.items()})
        assert inspection.done() == whole


class _Page(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, str] = {}
        self.texts = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name: value or "" for name, value in attrs}

    def handle_data(self, data: str) -> None:
        self.texts += data


class TestThePage:
    def test_asks_for_nothing_from_anywhere(self, ward: Ward) -> None:
        page = _Page(ward.check({})[2])
        assert not {"script", "img", "link", "iframe", "object", "a", "form"} & {*page.tags}
        assert not {"src", "href", "onload"} & {*page.attributes}
        assert "default-src 'none'" in page.attributes["content"]
        assert page.tags.count("svg") == 1 + len(WARD["columns"])

    def test_is_the_owners_alone_even_where_a_page_was_before(self, ward: Ward) -> None:
        (ward.folder / "check.html").write_text("older")
        (ward.folder / "check.html").chmod(0o644)
        assert "older" not in ward.check({})[2]
        assert stat.S_IMODE((ward.folder / "check.html").stat().st_mode) == 0o600

    def test_has_counts_bars_and_the_note(self, ward: Ward) -> None:
        page = _Page(ward.check({})[2])
        assert LOCAL in page.texts
        assert f"{ROWS} rows, {ROWS} usable, of 30 patients" in page.texts
        assert "no: 30" in page.texts
        assert "icu: 20" in page.texts
        assert "glucose (mmol/l)" in page.texts
        # The ends and the middle of the schema's bounds, below the bars.
        assert re.search(r"highest bar: \d+", page.texts)
        assert "3037.545" in page.texts

    def test_shows_no_value_and_obeys_none(self, ward: Ward) -> None:
        planted = {name: [f"<b>{SECRET}</b>", *cells[1:]] for name, cells in ward_cells().items()}
        document, complaint, page = ward.check(planted)
        assert SECRET not in json.dumps(document) + complaint + page

    def test_names_of_the_schema_are_escaped(self, ward: Ward) -> None:
        schema = json.loads(json.dumps(WARD).replace('"ward"', '"<script>ward"'))
        (ward.folder / "job.yaml").write_text(json.dumps({"dataset": "icu", "schema": schema}))
        page = ward.check({"ward": None, "<script>ward": ward_cells()["ward"]})[2]
        assert "script" not in _Page(page).tags
        assert "&lt;script&gt;ward" in page

    def test_a_place_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be written"):
            save_page(tmp_path, "text")


def test_the_tags_of_dicom_files_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in range(4):
        save(image(np.full((2, 2), row), PatientName=SECRET), tmp_path / f"{row}.dcm")
    rows = "".join(f"{row}.dcm,{row % 2}\n" for row in range(4))
    (tmp_path / "index.csv").write_text("file,ill\n" + rows)
    column = {"name": "image", "kind": "array", "shape": [1, 2, 2], "low": 0, "high": 3}
    schema = {"columns": [column], "label": {"name": "ill", "classes": [0, 1]}}
    (tmp_path / "schema.yaml").write_text(json.dumps(schema))
    source = {"kind": "dicom", "path": ".", "index": "index.csv", "size": [2, 2]}
    dataset = {"source": source, "population": "all"}
    hospital = {"name": "n", "datasets": {"ct": dataset}, "populations": {"all": {}}}
    (tmp_path / "hospital.yaml").write_text(json.dumps(hospital))
    data_check(tmp_path / "hospital.yaml", tmp_path / "schema.yaml", report=tmp_path / "check.html")
    shown = capsys.readouterr().out
    assert re.search(r"Tags that no record keeps +PatientName, SOPInstanceUID", shown)
    assert "PatientName, SOPInstanceUID" in (tmp_path / "check.html").read_text()
    assert SECRET not in shown + (tmp_path / "check.html").read_text()


@pytest.mark.parametrize(
    "verdict", ["empty", "tells the label?", "two spellings?", "two patients?", "both sides?"]
)
def test_a_suspicion_is_a_finding(verdict: Any) -> None:
    assert not ColumnProfile(name="a", kind="number", verdict=verdict).clean
