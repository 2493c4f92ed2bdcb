"""What data-check finds: one test for each mistake that it names, and what it never tells."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from client.cli import app
from client.data.config import CsvConfig
from client.data.findings import ColumnProfile
from client.data.inspection import inspect
from client.data.opening import open_source
from client.data.split import is_held_out
from client.data_check import LOCAL, check, data_check
from client.node_log import logging_to
from client.node_state import StateFolder
from client.status_command import collect
from client.support_bundle import write_bundle
from learning.task import load_task
from protocol.errors import InputError
from protocol.jobs import Named
from protocol.records import parts_of
from tests import federation
from tests.client.checked import (
    CLEAN,
    ROWS,
    SCHEMA,
    SECRET,
    SOURCES,
    TELLING,
    Files,
    Report,
    Ward,
    ward_cells,
)
from tests.consortium import make_consortium, make_job, make_request
from tests.consortium import schema as consortium_schema
from tests.simulations.runs import run_course

KEY = b"k" * 32


def column(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (item for item in document["columns"] if item["name"] == name)
    return dict(found)


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["verdict"] for item in document["columns"]}


def only(ward: Ward, name: str, planted: Mapping[str, Sequence[str] | None]) -> tuple[str, str]:
    """A column's verdict and remedy where it is the only one that anything is wrong with."""
    document, complaint, page = ward.check(planted)
    found = verdicts(document)
    others = {other: verdict for other, verdict in found.items() if other != name}
    assert set(others.values()) <= {"ok", "as declared"}, others
    assert found[name] in page
    # What is clamped is used, so nothing is complained of.
    assert (name in complaint) is (found[name] != "clamped")
    return found[name], str(column(document, name)["remedy"])


def across(patients: Sequence[str], person: Sequence[int]) -> bool:
    """Whether rows of one person lie on both sides of the split."""
    held_N = is_held_out(list(patients), KEY, 0.2)
    sides = {(one, held) for one, held in zip(person, held_N.tolist(), strict=True)}
    return len(sides) > len(set(person))


class TestEachMistakeIsFound:
    def test_none_where_there_is_none(self, ward: Ward) -> None:
        document, complaint, _ = ward.check({})
        assert complaint == ""
        assert set(verdicts(document).values()) == {"ok", "as declared"}

    def test_a_renamed_column(self, ward: Ward) -> None:
        renamed = {"glucose": None, "Glucose (mmol/l)": ward_cells()["glucose"]}
        verdict, remedy = only(ward, "glucose", renamed)
        assert verdict == "absent"
        assert "source.columns.glucose; is it 'Glucose (mmol/l)'?" in remedy
        assert "the source lacks glucose" in ward.check(renamed)[1]

    def test_a_wrong_unit_mg_dl_where_mmol_l_is_asked_for(self, ward: Ward) -> None:
        in_mg_dl = [f"{18.0156 * float(value):.1f}" for value in ward_cells()["glucose"]]
        verdict, remedy = only(ward, "glucose", {"glucose": in_mg_dl})
        assert verdict == "wrong unit?"
        assert "look like mg/dl: name the unit under source.units.glucose" in remedy
        document, complaint, _ = ward.check({"glucose": in_mg_dl}, units={"glucose": "mg/dl"})
        assert (complaint, document["clean"]) == ("", True)

    @pytest.mark.parametrize(
        ("name", "back"),
        [
            ("temperature", lambda _, value: 32 + 1.8 * value),
            ("glucose", lambda row, value: 18 * value if row % 5 == 0 else value),
            # Within the bounds, but far from where the schema says that numbers lie.
            ("glucose", lambda _, value: 0.180156 * value),
        ],
        ids=["degrees Fahrenheit", "a fifth in mg/dl", "g/l within the bounds"],
    )
    def test_another_wrong_unit(
        self, ward: Ward, name: str, back: Callable[[int, float], float]
    ) -> None:
        cells = [f"{back(row, float(v)):.4f}" for row, v in enumerate(ward_cells()[name])]
        verdict, remedy = only(ward, name, {name: cells})
        assert verdict == "wrong unit?"
        assert "numbers look like " in remedy

    def test_numbers_out_of_bounds(self, ward: Ward) -> None:
        beyond = ["501", *ward_cells()["crp"][1:-1], "-1"]
        verdict, remedy = only(ward, "crp", {"crp": beyond})
        assert (verdict, remedy[:38]) == ("clamped", "numbers beyond the bounds count as the")
        assert column(ward.check({"crp": beyond})[0], "crp")["outside"] == 2

    def test_an_unknown_category(self, ward: Ward) -> None:
        verdict, remedy = only(ward, "ward", {"ward": ["ICU-2", *ward_cells()["ward"][1:]]})
        assert verdict == "replaced"
        assert remedy == "translate the source's words to icu, er, op"

    def test_a_duplicate_patient_across_splits_by_another_column(self, ward: Ward) -> None:
        """The hospital splits by stays, and the job protects patients."""
        stays = [f"S{row}" for row in range(ROWS)]
        assert across(stays, [row // 2 for row in range(ROWS)])
        document, complaint, _ = ward.check({"stay": stays}, patient="stay")
        assert verdicts(document)["patient"] == "both sides?"
        assert "not stay, in datasets" in column(document, "patient")["remedy"]
        assert "trained on and evaluated on" in complaint
        households = [f"H{row // 4}" for row in range(ROWS)]
        assert ward.check({"stay": households}, patient="stay")[1] == ""
        assert ward.check({}, patient="patient")[1] == ""

    def test_a_duplicate_patient_across_splits_in_two_spellings(self, ward: Ward) -> None:
        spelt = [f"{'p-0' if row % 2 else 'P'}{row // 2 + 10:03}" for row in range(ROWS)]
        assert across(spelt, [row // 2 for row in range(ROWS)])
        verdict, remedy = only(ward, "patient", {"patient": spelt})
        assert verdict == "two spellings?"
        assert remedy == "write a patient's number alike in all rows, zeros included"

    def test_a_duplicate_patient_across_splits_under_two_numbers(self, ward: Ward) -> None:
        """Every row of the first half comes once more, under another patient's number."""
        half = ROWS // 2
        twice = {name: [*cells[:half], *cells[:half]] for name, cells in ward_cells().items()}
        twice |= {
            "patient": ward_cells()["patient"],
            "crp": [str(row % half) for row in range(ROWS)],
        }
        assert across(twice["patient"], [row % half // 2 for row in range(ROWS)])
        verdict, remedy = only(ward, "patient", twice)
        assert verdict == "two patients?"
        assert remedy == "rows agree in all numbers: give one person one number"

    @pytest.mark.parametrize(
        ("name", "of_no", "of_yes"),
        [
            ("a", ["0.1", "0.2"], ["0.8", "0.9"]),
            ("a", ["0.1", "0.9"], ["0.4", "0.5"]),
            ("smoker", ["no"], ["yes"]),
            ("ward", ["op", "er"], ["icu"]),
            ("crp", [""], ["7"]),
        ],
        ids=["ranges of a number", "codes among numbers", "a flag", "a category", "gaps"],
    )
    def test_label_leakage_by_a_perfectly_predictive_column(
        self, ward: Ward, name: str, of_no: Sequence[str], of_yes: Sequence[str]
    ) -> None:
        labels = ward_cells()["ill"]
        words = {"no": of_no, "yes": of_yes}
        cells = [words[label][row // 2 % len(words[label])] for row, label in enumerate(labels)]
        verdict, remedy = only(ward, name, {name: cells})
        assert (verdict, "gives every record's class away" in remedy) == ("tells the label?", True)
        assert "gives the class of every record away" in ward.check({name: cells})[1]
        # One record that goes against it, and the column is evidence like any other.
        cells[0] = of_yes[0]
        assert verdicts(ward.check({name: cells})[0])[name] in {"ok", "as declared"}

    @pytest.mark.parametrize("name", ["crp", "ward"], ids=["foreseen", "not foreseen"])
    def test_an_all_missing_column(self, ward: Ward, name: str) -> None:
        verdict, remedy = only(ward, name, {name: [""] * ROWS})
        assert verdict == "empty"
        assert remedy.startswith("no record has a value: map another column")


class TestVerdicts:
    def test_clean_records_pass(self, report: Report) -> None:
        document, complaint = report()
        assert (document["clean"], complaint) == (True, "")
        assert (document["rows"], document["kept"], document["patients"]) == (4, 4, 3)
        assert document["classes"] == {"no": 2, "yes": 2}
        assert document["note"] == LOCAL
        verdicts = {item["name"]: item["verdict"] for item in document["columns"]}
        assert verdicts == dict.fromkeys(CLEAN, "ok") | {"lactate": "as declared"}
        assert [item["name"] for item in document["columns"]] == list(CLEAN)

    @pytest.mark.parametrize(
        ("planted", "name", "judged", "remedy"),
        [
            ({"age": ["nan", "", "70", "80"]}, "age", ("unreadable", "replaced"), "empty"),
            ({"age": ["NaN ", "60", "70", "80"]}, "age", ("unreadable", "replaced"), "empty"),
            ({"age": ["inf", "60", "70", "80"]}, "age", ("unreadable", "replaced"), "empty"),
            ({"age": ["-1e999", "60", "70", "80"]}, "age", ("unreadable", "replaced"), "empty"),
            ({"age": ["-nan", "60", "70", "80"]}, "age", ("unreadable", "replaced"), "empty"),
            ({"age": ["old", "60", "70", "80"]}, "age", ("unreadable", "replaced"), "empty"),
            ({"lactate": ["nan", "", "1", "2"]}, "lactate", ("unreadable", "replaced"), "empty"),
            ({"age": ["50,5", "60", "70", "80"]}, "age", ("unreadable", "replaced"), "point"),
            ({"age": ["", "60", "70", "80"]}, "age", ("missing", "replaced"), "may_be_missing"),
            ({"age": ["n/a", "60", "70", "80"]}, "age", ("missing", "replaced"), "may_be_missing"),
            ({"age": ["121", "60", "70", "80"]}, "age", ("outside", "clamped"), "bound"),
            ({"sex": ["d", "m", "f", "m"]}, "sex", ("unknown", "replaced"), "f, m"),
            ({"sex": ["", "m", "f", "m"]}, "sex", ("missing", "replaced"), "may_be_missing"),
            ({"smoker": ["perhaps", "no", "0", "1"]}, "smoker", ("unreadable", "replaced"), "yes"),
            ({"sepsis": ["", "yes", "no", "yes"]}, "sepsis", ("missing", "left out"), "label"),
            ({"sepsis": ["?!", "yes", "no", "yes"]}, "sepsis", ("unknown", "left out"), "no, yes"),
            ({"patient": ["", "b", "a", "c"]}, "patient", ("missing", "left out"), "patient"),
        ],
    )
    def test_one_bad_cell(
        self,
        files: Files,
        report: Report,
        planted: Mapping[str, Sequence[str]],
        name: str,
        judged: tuple[str, str],
        remedy: str,
    ) -> None:
        count, verdict = judged
        files.plant(**planted)
        document, complaint = report()
        found = column(document, name)
        assert (found[count], found["verdict"]) == (1, verdict)
        assert remedy in found["remedy"]
        assert document["clean"] == (complaint == "") == (verdict == "clamped")
        assert (name in complaint) == (verdict != "clamped")
        others = [item for item in document["columns"] if item["name"] != name]
        assert {item["verdict"] for item in others} <= {"ok", "as declared"}

    def test_the_gravest_problem_chooses_and_all_are_counted(
        self, files: Files, report: Report
    ) -> None:
        files.plant(age=["nan", "", "300", "80"])
        found = column(report()[0], "age")
        counts = {name: found[name] for name in ("missing", "unreadable", "outside", "unknown")}
        assert counts == {"missing": 1, "unreadable": 1, "outside": 1, "unknown": 0}
        assert found["verdict"] == "replaced"

    def test_a_declared_gap_is_no_reason_in_the_complaint(
        self, files: Files, report: Report
    ) -> None:
        files.plant(lactate=["nan", "", "2", "4"])
        _, complaint = report()
        assert "lactate (NaN or no number)" in complaint

    def test_most_numbers_out_of_bounds_look_like_another_unit(
        self, files: Files, report: Report
    ) -> None:
        files.plant(age=["600", "720", "840", "80"])
        document, complaint = report()
        found = column(document, "age")
        assert (found["verdict"], found["outside"]) == ("wrong unit?", 3)
        assert "0 to 120 years" in found["remedy"]
        assert "age seem to be in another unit" in complaint
        files.plant(age=["600", "720", "70", "80"])
        assert column(report()[0], "age")["verdict"] == "clamped"

    def test_left_out_rows_are_in_no_class(self, files: Files, report: Report) -> None:
        files.plant(sepsis=["", "yes", "no", "yes"], patient=["a", "", "a", "c"])
        document, _ = report()
        assert (document["kept"], document["patients"]) == (2, 2)
        assert document["classes"] == {"no": 1, "yes": 1}

    def test_an_empty_source_is_not_clean(self, files: Files, report: Report) -> None:
        files.records({name: [] for name in CLEAN})
        document, complaint = report()
        assert (document["rows"], document["clean"]) == (0, False)
        assert "no record that a job could use" in complaint

    def test_without_a_patient_column_every_record_counts(
        self, files: Files, report: Report
    ) -> None:
        files.document({"dataset": "sepsis", "schema": {**SCHEMA, "patient": None}})
        document, _ = report()
        assert (document["unit"], document["kept"], document["patients"]) == ("record", 4, 4)


class TestAbsentColumns:
    def test_are_all_listed_with_the_nearest_name(self, files: Files, report: Report) -> None:
        renamed = {"Age": "age", "smoke": "smoker"}
        inverse = {theirs: ours for ours, theirs in renamed.items()}
        files.records({inverse.get(name, name): cells for name, cells in CLEAN.items()})
        document, complaint = report()
        absent = [item for item in document["columns"] if item["verdict"] == "absent"]
        assert [item["name"] for item in absent] == ["age", "smoker"]
        assert "source.columns.smoker; is it 'smoke'?" in absent[1]["remedy"]
        assert "the source lacks age, smoker" in complaint
        assert (document["kept"], column(document, "sex")["verdict"]) == (4, "ok")

    def test_a_map_of_names_brings_them_back(self, files: Files, report: Report) -> None:
        files.records({"ALTER" if name == "age" else name: v for name, v in CLEAN.items()})
        files.datasets("sepsis", columns={"age": "ALTER"})
        assert report()[0]["clean"]

    def test_without_label_or_patient_no_row_is_used(self, files: Files, report: Report) -> None:
        for name in ("sepsis", "patient"):
            files.records({key: cells for key, cells in CLEAN.items() if key != name})
            document, complaint = report()
            assert (document["rows"], document["kept"]) == (4, 0)
            assert column(document, name)["verdict"] == "absent"
            assert f"lacks {name}" in complaint

    def test_none_at_all_is_an_error_by_itself(self, files: Files) -> None:
        files.records({"x": ["1"]})
        with pytest.raises(InputError, match=r"none of the schema's columns; expected .*sex"):
            data_check(files.hospital, files.job)

    @pytest.mark.parametrize("named", [{}, {"patient": "case"}, {"columns": {"age": "ALTER"}}])
    def test_a_record_in_place_of_the_header_is_not_shown(
        self, files: Files, named: dict[str, Any]
    ) -> None:
        files.records({"Zaphod": ["Arthur"], "agile": ["sexton"]})
        files.datasets("sepsis", **named)
        with pytest.raises(InputError, match="is the first line a record") as caught:
            data_check(files.hospital, files.job)
        assert "Zaphod" not in str(caught.value)
        assert "agile" not in str(caught.value)


cells = st.sampled_from(["", "nan", "7", "900", "old", SECRET, "x,y", "7,5", "inf", "f", "yes"])


def nothing_of_it(*told: str | bytes) -> None:
    """Neither the patient's name nor their number stands in what was told."""
    for text in told:
        data = text.encode() if isinstance(text, str) else text
        assert SECRET.encode() not in data
        assert TELLING.encode() not in data


class TestNoPatientValueLeaves:
    """JSON, terminal, exceptions, logs, messages, the support bundle; the page stays at home."""

    @pytest.mark.parametrize("kind", sorted(SOURCES))
    @pytest.mark.parametrize("options", [(), ("--json",)], ids=["terminal", "json"])
    def test_terminal_json_exception_and_log(
        self, files: Files, caplog: pytest.LogCaptureFixture, kind: str, options: Sequence[str]
    ) -> None:
        planted = {name: [SECRET] * 3 + [TELLING] for name in CLEAN}
        planted["sepsis"] = [SECRET, "yes", "no", "yes"]
        files.source(SOURCES[kind](files.folder, planted), "sepsis")
        with caplog.at_level(logging.DEBUG):
            done = CliRunner().invoke(
                app, ["data-check", str(files.hospital), str(files.job), *options]
            )
        assert isinstance(done.exception, InputError)
        assert "sex" in done.output
        nothing_of_it(done.output, str(done.exception), caplog.text)

    @pytest.mark.parametrize("damage", ["a short row", "a stray quote", "no UTF-8", "a long row"])
    def test_the_message_about_a_damaged_file(
        self, files: Files, caplog: pytest.LogCaptureFixture, damage: str
    ) -> None:
        row = f"{TELLING},1,f,yes,no,{SECRET},2026-01-01".encode()
        lines = {
            "a short row": row.rsplit(b",", 1)[0],
            "a long row": row + b",x",
            "a stray quote": row.replace(b"Zaphod", b'"Zap"hod'),
            "no UTF-8": row + b"\xff",
        }
        with (files.folder / "records.csv").open("ab") as file:
            file.write(lines[damage] + b"\n")
        with caplog.at_level(logging.DEBUG), pytest.raises(InputError) as caught:
            data_check(files.hospital, files.job)
        assert "records.csv" in str(caught.value)
        nothing_of_it(str(caught.value), caplog.text)

    def test_messages_logs_and_support_bundle_of_a_job(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        consortium = make_consortium(tmp_path / "c", patients=True)
        config = federation.hospital_config(consortium, "north")
        path = config.parent / "data.csv"
        told = [f"{TELLING},{TELLING},{SECRET},yes,{SECRET}", f"{SECRET},,,{SECRET},{SECRET}"]
        path.write_text(path.read_text() + "".join(f"{line}\n" for line in told))
        state = StateFolder(config.parent / "node")
        with logging_to(state.logs, size_mb=1, kept=1), caplog.at_level(logging.DEBUG):
            job = make_job(consortium, make_request(patients=True, rounds=1))
            run = run_course(consortium, job)
        assert run.outcome.status == "completed"
        parts = [parts_of(message.content) for message in run.grid.seen]
        sent = [bytes(part) for message in parts for part in message.values()]
        nothing_of_it(caplog.text, repr(run.outcome), *sent)
        write_bundle(tmp_path / "bundle.zip", config, collect(config))
        with zipfile.ZipFile(tmp_path / "bundle.zip") as bundle:
            nothing_of_it(*(bundle.read(name) for name in bundle.namelist()))
        # What the hospital tells itself of a refused cell stays a count, too.
        nothing_of_it((config.parent / "journal.jsonl").read_bytes())

    @settings(max_examples=60)
    @given(
        table=st.lists(st.tuples(*[cells] * len(CLEAN)), min_size=1, max_size=6).map(
            lambda rows: {
                name: list(column)
                for name, column in zip(CLEAN, zip(*rows, strict=True), strict=True)
            }
        )
    )
    def test_every_cell_is_counted_once_and_none_is_quoted(
        self, table: dict[str, list[str]]
    ) -> None:
        task = load_task(Named(name="diagnosis", options={}), SCHEMA)
        found = inspect(task, table)
        assert SECRET not in str(found)
        assert sum(found.classes.values()) == found.kept <= found.rows
        for item in found.columns:
            used = found.rows - item.missing - item.unreadable - item.unknown
            assert 0 <= item.outside <= used
            usable = {
                "number": {"7", "900"},
                "category": {"f"},
                "flag": {"f", "yes"},
                "label": {"yes"},
            }.get(item.kind)
            if usable is not None:
                assert used == sum(cell in usable for cell in table[item.name])


def test_clean_is_what_nothing_was_found_in() -> None:
    assert ColumnProfile(name="a", kind="number").clean
    assert not ColumnProfile(name="a", kind="number", verdict="absent").clean


def test_the_consortiums_records_are_clean(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path / "all", patients=True)
    task = load_task(Named(name="diagnosis", options={}), consortium_schema(patients=True))
    for name in consortium.names:
        source = open_source(CsvConfig(kind="csv", path=Path("data.csv")), tmp_path / "all" / name)
        found = check(source, task)
        assert found.clean
        assert (found.rows, found.patients) == (60, 30)
