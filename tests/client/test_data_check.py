from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.config import CsvConfig
from client.data.findings import ColumnProfile
from client.data.inspection import inspect
from client.data.opening import open_source
from client.data_check import LOCAL, check, data_check
from learning.task import load_task
from protocol.errors import InputError
from protocol.jobs import Named
from tests.consortium import schema as consortium_schema

FEDWARD = Path(sys.executable).with_name("fedward")
PATIENT = "Zaphod-4711"
SCHEMA: dict[str, Any] = {
    "columns": [
        {"name": "age", "kind": "number", "unit": "years", "low": 0, "high": 120},
        {"name": "lactate", "kind": "number", "low": 0, "high": 20, "may_be_missing": True},
        {"name": "sex", "kind": "category", "categories": ["f", "m"]},
        {"name": "smoker", "kind": "flag"},
    ],
    "label": {"name": "sepsis", "classes": ["no", "yes"]},
    "patient": "patient",
    "time": "admitted",
}
CLEAN: dict[str, Sequence[str]] = {
    "age": ["50", "60", "70", "80"],
    "lactate": ["1.5", "", "2", "4"],
    "sex": ["f", "m", "f", "m"],
    "smoker": ["yes", "no", "0", "1"],
    "sepsis": ["no", "yes", "no", "yes"],
    "patient": ["a", "b", "a", "c"],
    "admitted": ["2026-01-01", "", "2026-01-02", "2026-01-03"],
}


class Files:
    """A hospital's configuration, its records and a job, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hospital = folder / "hospital.yaml"
        self.job = folder / "job.yaml"
        self.records(CLEAN)
        self.datasets("sepsis")
        self.document({"dataset": "sepsis", "schema": SCHEMA, "min_sites": "not looked at"})

    def datasets(self, *names: str, columns: Mapping[str, str] | None = None, **more: str) -> None:
        source = {"kind": "csv", "path": "records.csv", "columns": dict(columns or {})}
        config = {
            "name": "north",
            "datasets": {name: {"source": source, "population": "all", **more} for name in names},
            "populations": {"all": {}},
        }
        self.hospital.write_text(json.dumps(config))

    def records(self, columns: Mapping[str, Sequence[str]]) -> None:
        with (self.folder / "records.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    def plant(self, **columns: Sequence[str]) -> None:
        self.records({**CLEAN, **columns})

    def document(self, content: object) -> None:
        self.job.write_text(json.dumps(content))

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [FEDWARD, "client", "data-check", self.hospital, self.job, *options],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def report(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[dict[str, Any], str]]:
    """The JSON document and the complaint, empty where there is none."""

    def run(*, dataset: str | None = None) -> tuple[dict[str, Any], str]:
        complaint = ""
        try:
            data_check(files.hospital, files.job, dataset=dataset, as_json=True)
        except InputError as error:
            complaint = str(error)
        return json.loads(capsys.readouterr().out), complaint

    return run


Report = Callable[..., tuple[dict[str, Any], str]]


def column(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (item for item in document["columns"] if item["name"] == name)
    return dict(found)


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
        with pytest.raises(InputError, match=r"none of the schema's columns.*found x"):
            data_check(files.hospital, files.job)


class TestWhatIsChecked:
    def test_a_bare_schema_and_the_only_data_set(self, files: Files, report: Report) -> None:
        files.document(SCHEMA)
        document, _ = report()
        assert (document["dataset"], document["clean"]) == ("sepsis", True)

    def test_another_data_set(self, files: Files, report: Report) -> None:
        files.datasets("sepsis", "trial")
        assert report(dataset="trial")[0]["dataset"] == "trial"

    def test_the_jobs_task_decides(self, files: Files) -> None:
        task = {"name": "diagnosis", "options": {"model": "forest"}}
        files.document({"dataset": "sepsis", "schema": SCHEMA, "task": task})
        with pytest.raises(InputError, match=r"job\.task.*model"):
            data_check(files.hospital, files.job)

    @pytest.mark.parametrize(
        ("names", "document", "message"),
        [
            (("a", "b"), SCHEMA, "no data set is named; expected one of a, b"),
            (("a",), {"dataset": "b", "schema": SCHEMA}, "no data set 'b' here; expected one of a"),
            ((), SCHEMA, "no data set is named; expected one in the configuration"),
            (("a",), {"dataset": "a"}, r"job.yaml:1: document: missing 'schema'"),
            (("a",), {"schema": {**SCHEMA, "columns": []}}, "too few columns"),
            (("a",), {"schema": SCHEMA, "task": "diagnosis"}, "task: wrong type"),
        ],
    )
    def test_mistakes_are_named(
        self, files: Files, names: tuple[str, ...], document: object, message: str
    ) -> None:
        files.datasets(*names)
        files.document(document)
        with pytest.raises(InputError, match=message):
            data_check(files.hospital, files.job)

    def test_the_column_that_the_split_goes_by_is_there(self, files: Files) -> None:
        files.datasets("sepsis", patient="patient")
        data_check(files.hospital, files.job)
        files.datasets("sepsis", patient="PATNR")
        with pytest.raises(InputError, match=r"sepsis\.patient: the source lacks 'PATNR'"):
            data_check(files.hospital, files.job)

    def test_patients_that_the_job_would_protect_as_records(
        self, files: Files, report: Report, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files.datasets("sepsis", patient="patient")
        assert report()[0]["warnings"] == []
        files.document({"dataset": "sepsis", "schema": {**SCHEMA, "patient": None}})
        document, complaint = report()
        (warning,) = document["warnings"]
        assert "names its patients in 'patient' and the job protects each record" in warning
        assert complaint == ""
        data_check(files.hospital, files.job)
        assert "Warning: the data set names its patients" in capsys.readouterr().out
        files.datasets("sepsis", patient="admitted")
        files.document({"dataset": "sepsis", "schema": SCHEMA})
        assert "whoever 'patient' names" in report()[0]["warnings"][0]

    def test_a_schemas_mistake_has_its_line(self, files: Files) -> None:
        files.job.write_text(
            "dataset: sepsis\nschema:\n  columns:\n"
            "    - {name: age, kind: number, low: 0, high: 120}\n"
            "    - {name: sex, kind: category, catgories: [f, m]}\n"
            "  label: {name: sepsis, classes: [no, yes]}\n"
        )
        with pytest.raises(InputError, match=r"job\.yaml:5: .*did you mean 'categories'"):
            data_check(files.hospital, files.job)


class TestCommand:
    def test_nothing_but_two_files_and_the_records_is_needed_or_made(self, files: Files) -> None:
        before = sorted(files.folder.iterdir())
        done = files.run()
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(files.folder.iterdir()) == before
        assert "Verdict: clean" in done.stdout
        assert LOCAL in done.stdout
        assert "4 rows, 4 usable, of 3 patients" in done.stdout
        assert "no: 2   yes: 2" in done.stdout

    def test_says_whom_a_job_protects(
        self, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files.document({"dataset": "sepsis", "schema": {**SCHEMA, "patient": None}})
        data_check(files.hospital, files.job)
        assert "4 usable, each protected by itself" in capsys.readouterr().out

    def test_a_nan_is_shown_then_told_in_one_line(self, files: Files) -> None:
        files.plant(age=["nan", "60", "70", "80"])
        done = files.run()
        assert done.returncode == 2
        assert re.search(r"age +number +0 +1 +0 +0 +replaced", done.stdout)
        assert done.stdout.rstrip().endswith(LOCAL)
        assert done.stderr == (
            "error: data set 'sepsis': values of age (NaN or no number) would be replaced by "
            "neutral ones; correct the source, or accept it with --allow-findings\n"
        )

    def test_findings_can_be_allowed(self, files: Files) -> None:
        files.plant(age=["nan", "60", "70", "80"])
        done = files.run("--allow-findings", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["clean"] is False

    def test_columns_are_aligned(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        data_check(files.hospital, files.job)
        lines = capsys.readouterr().out.splitlines()
        header = next(line for line in lines if line.lstrip().startswith("column"))
        end = header.index("unreadable") + len("unreadable")
        rows = [line for line in lines if re.match(r" \w+ +(number|category|flag|label)", line)]
        assert len(rows) == 5
        assert all(line[end - 1] == "0" and line[end] == " " for line in rows)
        assert {line.index(line.split()[-1]) for line in rows} >= {header.index("verdict")}

    def test_a_schemas_marks_are_shown_and_not_obeyed(
        self, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        columns = [{**SCHEMA["columns"][0], "name": "[red]age[/red]"}, *SCHEMA["columns"][1:]]
        files.document({"dataset": "sepsis", "schema": {**SCHEMA, "columns": columns}})
        files.datasets("sepsis", columns={"[red]age[/red]": "age"})
        files.plant(age=["nan", "60", "70", "80"])
        data_check(files.hospital, files.job, allow_findings=True)
        shown = capsys.readouterr().out
        assert re.search(r"\[red\]age\[/red\] +number +0 +1 ", shown)
        assert re.search(r"\[red\]age\[/red\] +write plain numbers", shown)

    @pytest.mark.parametrize("forbidden", [True, False])
    def test_colours_on_a_terminal_unless_they_are_forbidden(
        self, files: Files, forbidden: bool
    ) -> None:
        main, other = pty.openpty()
        environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
        environment.pop("NO_COLOR", None)
        if forbidden:
            environment["NO_COLOR"] = "1"
        subprocess.run(
            [FEDWARD, "client", "data-check", files.hospital, files.job],
            env=environment,
            stdout=other,
            check=True,
        )
        os.close(other)
        shown = b""
        while chunk := _read(main):
            shown += chunk
        os.close(main)
        assert (b"\x1b[32m" in shown) is not forbidden
        assert max(map(len, _plain(shown).splitlines())) <= 80


def _read(descriptor: int) -> bytes:
    """The next bytes of a terminal, none at its end."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def _plain(shown: bytes) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode())


cells = st.sampled_from(["", "nan", "7", "900", "old", PATIENT, "x,y", "7,5", "inf", "f", "yes"])


class TestNoValueIsShown:
    def test_neither_table_nor_json_nor_complaint(self, files: Files) -> None:
        planted = {name: [PATIENT] * 4 for name in CLEAN if name != "sepsis"}
        files.plant(**planted, sepsis=[PATIENT, "yes", "no", "yes"])
        for options in ([], ["--json"]):
            done = files.run(*options)
            assert done.returncode == 2
            assert PATIENT not in done.stdout + done.stderr

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
        assert PATIENT not in str(found)
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
    from tests.consortium import make_consortium

    consortium = make_consortium(tmp_path / "all", patients=True)
    task = load_task(Named(name="diagnosis", options={}), consortium_schema(patients=True))
    for name in consortium.names:
        source = open_source(CsvConfig(kind="csv", path=Path("data.csv")), tmp_path / "all" / name)
        found = check(source, task)
        assert found.clean
        assert (found.rows, found.patients) == (60, 30)
