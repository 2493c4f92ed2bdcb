"""The command by itself: what it reads, what it prints, and how it leaves."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest

from client.data_check import LOCAL, data_check
from protocol.errors import InputError
from tests.client.checked import FEDWARD, SCHEMA, Files, Report


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
