"""What makes a column look wrong as a whole: one test for each finding, and for its absence."""

from __future__ import annotations

import csv
import json
import re
import stat
from collections.abc import Callable, Mapping, Sequence
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
from tests.dicom import image, save

ROWS = 60
SECRET = "Zaphod-4711"  # noqa: S105 - nobody's
SCHEMA: dict[str, Any] = {
    "columns": [
        {
            "name": "glucose", "kind": "number", "unit": "mmol/l", "low": 0, "high": 40,
            "centre": 6, "spread": 2, "molar_mass": 180.156,
        },
        {"name": "temperature", "kind": "number", "unit": "degC", "low": 30, "high": 45},
        {"name": "crp", "kind": "number", "low": 0, "high": 500, "may_be_missing": True},
        *(
            {"name": name, "kind": "number", "low": 0, "high": 1}
            for name in ("a", "b", "c")
        ),
        {"name": "ward", "kind": "category", "categories": ["icu", "er", "op"]},
        {"name": "smoker", "kind": "flag", "may_be_missing": True},
    ],
    "label": {"name": "ill", "classes": ["no", "yes"]},
    "patient": "patient",
}  # fmt: skip


def clean() -> dict[str, list[str]]:
    rng = np.random.default_rng(1)
    return {
        "glucose": [f"{value:.2f}" for value in 4 + 5 * rng.random(ROWS)],
        "temperature": [f"{value:.1f}" for value in 36 + 3 * rng.random(ROWS)],
        "crp": ["" if row % 7 == 0 else str(row) for row in range(ROWS)],
        **{name: [f"{value:.4f}" for value in rng.random(ROWS)] for name in ("a", "b", "c")},
        "ward": [("icu", "er", "op")[row % 3] for row in range(ROWS)],
        "smoker": [("yes", "no")[row % 4 // 2] for row in range(ROWS)],
        "ill": [("no", "yes")[row % 2] for row in range(ROWS)],
        "patient": [f"P{row // 2 + 10:03}" for row in range(ROWS)],
    }


class Ward:
    """A hospital's files; `check` returns the document, the complaint and the page."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        (folder / "job.yaml").write_text(json.dumps({"dataset": "icu", "schema": SCHEMA}))

    def check(
        self,
        planted: Mapping[str, Sequence[str] | None],
        units: Mapping[str, str] | None = None,
        patient: str | None = None,
    ) -> tuple[dict[str, Any], str, str]:
        table = {name: cells for name, cells in {**clean(), **planted}.items() if cells}
        with (self.folder / "icu.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
        source = {"kind": "csv", "path": "icu.csv", "units": dict(units or {})}
        dataset = {"source": source, "population": "all", "patient": patient}
        hospital = {"name": "n", "datasets": {"icu": dataset}, "populations": {"all": {}}}
        (self.folder / "hospital.yaml").write_text(json.dumps(hospital))
        complaint, report = "", self.folder / "check.html"
        try:
            data_check(
                self.folder / "hospital.yaml",
                self.folder / "job.yaml",
                as_json=True,
                report=report,
            )
        except InputError as error:
            complaint = str(error)
        return json.loads(self._capsys.readouterr().out), complaint, report.read_text()


@pytest.fixture
def ward(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ward:
    return Ward(tmp_path, capsys)


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["verdict"] for item in document["columns"]}


def remedy(document: dict[str, Any], name: str) -> str:
    return str(next(item["remedy"] for item in document["columns"] if item["name"] == name))


def test_clean_records_raise_no_suspicion(ward: Ward) -> None:
    document, complaint, _ = ward.check({})
    assert complaint == ""
    assert set(verdicts(document).values()) == {"ok", "as declared"}


labels = clean()["ill"]
WRONG: dict[str, tuple[dict[str, list[str]], str, str, str]] = {
    "all missing": ({"crp": [""] * ROWS}, "crp", "empty", "no record has a value"),
    "all missing and not foreseen": ({"ward": [""] * ROWS}, "ward", "empty", "no record"),
    "a number that tells the label": (
        {"a": [("0.1", "0.9")[label == "yes"] for label in labels]},
        "a", "tells the label?", "gives the class of every record away",
    ),
    "a flag that tells the label": ({"smoker": labels}, "smoker", "tells the label?", "away"),
    "a category that tells the label": (
        {"ward": [("op", "icu")[label == "yes"] for label in labels]},
        "ward", "tells the label?", "away",
    ),
    "gaps that tell the label": (
        {"crp": [("", "7")[label == "yes"] for label in labels]},
        "crp", "tells the label?", "away",
    ),
    "mg/dl instead of mmol/l": (
        {"glucose": [str(18 * float(value)) for value in clean()["glucose"]]},
        "glucose", "wrong unit?", "another unit",
    ),
    "a fifth in mg/dl": (
        {"glucose": [str(18 * float(v)) if row % 5 == 0 else v
                     for row, v in enumerate(clean()["glucose"])]},
        "glucose", "wrong unit?", "another unit",
    ),
    "within the bounds but far from where numbers lie": (
        {"glucose": [f"{0.180156 * float(value):.4f}" for value in clean()["glucose"]]},
        "glucose", "wrong unit?", "another unit",
    ),
    "degrees Fahrenheit": (
        {"temperature": [str(32 + 1.8 * float(value)) for value in clean()["temperature"]]},
        "temperature", "wrong unit?", "another unit",
    ),
    "one patient in two spellings": (
        {"patient": [f"{'p-0' if row == 1 else 'P'}{row // 2 + 10:03}" for row in range(ROWS)]},
        "patient", "two spellings?", "written in two ways",
    ),
    "one person under two numbers": (
        {name: [cells[0], *cells[1:-1], cells[0]] for name, cells in clean().items()
         if name in {"glucose", "temperature", "crp", "a", "b", "c"}}
        | {"crp": ["3", *clean()["crp"][1:-1], "3"]},
        "patient", "two patients?", "two numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("planted", "name", "verdict", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found_and_nothing_else(
    ward: Ward, planted: dict[str, list[str]], name: str, verdict: str, told: str
) -> None:
    document, complaint, page = ward.check(planted)
    found = verdicts(document)
    assert found[name] == verdict
    others = {other: each for other, each in found.items() if other != name}
    assert set(others.values()) <= {"ok", "as declared"}, others
    assert told in complaint
    assert name in complaint
    assert remedy(document, name)
    assert verdict in page


@pytest.mark.parametrize(
    ("name", "unit", "back"),
    [("glucose", "mg/dl", lambda x: 18.0156 * x), ("temperature", "degF", lambda x: 32 + 1.8 * x)],
)
def test_the_unit_is_named_and_naming_it_is_the_remedy(
    ward: Ward, name: str, unit: str, back: Callable[[float], float]
) -> None:
    planted = {name: [str(back(float(value))) for value in clean()[name]]}
    document, _, _ = ward.check(planted)
    assert f"look like {unit}: name the unit under source.units.{name}" in remedy(document, name)
    document, complaint, _ = ward.check(planted, units={name: unit})
    assert (complaint, document["clean"]) == ("", True)


def test_a_renamed_column_is_suggested(ward: Ward) -> None:
    document, complaint, _ = ward.check({"glucose": None, "Glucose (mmol/l)": clean()["glucose"]})
    assert verdicts(document)["glucose"] == "absent"
    assert "is it 'Glucose (mmol/l)'?" in remedy(document, "glucose")
    assert "the source lacks glucose" in complaint


def test_a_patient_on_both_sides_of_the_split(ward: Ward) -> None:
    stays = [f"S{row}" for row in range(ROWS)]
    document, complaint, _ = ward.check({"stay": stays}, patient="stay")
    assert verdicts(document)["patient"] == "both sides?"
    assert "not stay, in datasets" in remedy(document, "patient")
    assert "trained on and evaluated on" in complaint
    households = [f"H{row // 4}" for row in range(ROWS)]
    assert ward.check({"stay": households}, patient="stay")[1] == ""
    assert ward.check({}, patient="patient")[1] == ""


def test_few_rows_tell_nothing() -> None:
    schema = {"columns": [{"name": "x", "kind": "flag"}], "label": {"name": "y", "classes": [0, 1]}}
    task = load_task(Named(name="diagnosis", options={}), schema)
    for rows, verdict in ((9, "ok"), (10, "tells the label?")):
        table = {"x": [0] * rows + [1] * rows, "y": [0] * rows + [1] * rows}
        assert inspect(task, table).columns[0].verdict == verdict


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
    task = load_task(Named(name="diagnosis", options={}), SCHEMA)
    table = {**clean(), "glucose": ["90"] * 30 + [""] * 30, "smoker": labels}
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
        assert page.tags.count("svg") == 1 + len(SCHEMA["columns"])

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

    def test_shows_no_value_and_obeys_none(self, ward: Ward) -> None:
        planted = {name: [f"<b>{SECRET}</b>", *cells[1:]] for name, cells in clean().items()}
        document, complaint, page = ward.check(planted)
        assert SECRET not in json.dumps(document) + complaint + page

    def test_names_of_the_schema_are_escaped(self, ward: Ward) -> None:
        schema = json.loads(json.dumps(SCHEMA).replace('"ward"', '"<script>ward"'))
        (ward.folder / "job.yaml").write_text(json.dumps({"dataset": "icu", "schema": schema}))
        page = ward.check({"ward": None, "<script>ward": clean()["ward"]})[2]
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
