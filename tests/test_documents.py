"""What the documents say exists: links, files, functions, commands, codes; and examples run."""

from __future__ import annotations

import csv
import doctest
import importlib
import re
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

import fedward
import simulations.sweep
from client.data.config import CsvConfig
from client.hospital import HospitalConfig
from protocol.config import parse
from protocol.errors import Code
from simulations.config import Arm, DataConfig, Simulation
from simulations.data import load_data
from simulations.results import Result

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/py.typed"))
FOLDERS = (*PACKAGES, "tests", "benchmarks", "configs", "docs")
README = ROOT / "README.md"
CONFIGS = ROOT / "configs"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), CONFIGS / "README.md"])

FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FILE = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
NAME = re.compile(rf"^(?!server\.(?:yaml|pem|key)$)(?:{'|'.join(PACKAGES)})(?:\.\w+)+$")
MEASURED = re.compile(r"<? ?[\d,]*(\.\d+|\d ?(ms|s|MB|kB|%|/s))( ?(ms|s|MB|kB|%|/s))?( ± .*)?")
MEASURING = re.compile(r"benchmarks/\w+\.py|fedward (simulate|audit|attack) |^>>> ", re.MULTILINE)
COMMAND = re.compile(r"^(?:\.venv/bin/)?(fedward( .*)?)$")


def of_pages(pages: list[Path]) -> pytest.MarkDecorator:
    """Run a test once for each page."""
    ids = [path.relative_to(ROOT).as_posix() for path in pages]
    return pytest.mark.parametrize("page", pages, ids=ids)


of_every_page = of_pages(PAGES)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language, `` for those that name none."""
    return [block for _, named, block in FENCED.findall(text) if named == language]


def section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of its rank."""
    _, found = page.read_text(encoding="utf-8").split(f"\n{heading}\n")
    return found.split(f"\n{heading.partition(' ')[0]} ")[0]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page may end with, as GitHub spells it."""
    plain = (re.sub(r"[`*\[\]]", "", title).lower() for title in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


def measured(text: str) -> list[str]:
    """Cells of a text's tables that are results: fractions, spreads, or numbers with a unit."""
    rows = [line for line in FENCED.sub("", text).splitlines() if line.startswith("|")]
    cells = [cell.strip(" *") for row in rows for cell in row.strip("|").split("|")]
    return [cell for cell in cells if MEASURED.fullmatch(cell)]


def without_command(text: str) -> list[str]:
    """Headings of sections with results and without a command, or an example, that prints them."""
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    results = [part for part in sections if measured(part) and not MEASURING.search(part)]
    return [part.partition("\n")[0] for part in results]


def commands(text: str) -> Iterator[str]:
    """Every `fedward ...` that a text shows, in blocks and in sentences."""
    shown = [*blocks(text, ""), *blocks(text, "bash")]
    lines = [line.strip() for block in shown for line in block.splitlines()]
    for line in (*lines, *INLINE.findall(FENCED.sub("", text))):
        if found := COMMAND.match(line):
            yield found[1].partition(" #")[0].strip()


def follow(line: str) -> click.Command:
    """The command that a line runs; fails where a group has no such command or option."""
    words = shlex.split(line)[1:]
    command = typer.main.get_command(fedward.app)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(command)
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("-")} <= known, line
    return command


def resolve(name: str) -> Any:
    """What a dotted name stands for: a module, or something in one."""
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for depth, part in enumerate(parts[1:], start=2):
        if part in getattr(found, "__dataclass_fields__", {}):
            return found.__dataclass_fields__[part]
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:depth]))
        found = getattr(found, part)
    return found


@of_every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@of_every_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    for name in FILE.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (page.parent / name).exists(), name


@of_every_page
def test_every_function_that_is_named_exists(page: Path) -> None:
    for name in INLINE.findall(prose(page)):
        if NAME.match(name):
            assert resolve(name) is not None


@of_every_page
def test_every_command_that_is_shown_exists(page: Path) -> None:
    for line in commands(page.read_text(encoding="utf-8")):
        follow(line)


def test_the_readme_shows_what_each_kind_of_people_types() -> None:
    shown = {follow(line).name for line in commands(README.read_text(encoding="utf-8"))}
    assert shown >= {"data-check", "ledger", "plan", "simulate"}


def test_every_command_in_a_configuration_runs_on_files_that_exist() -> None:
    for path in sorted(set(CONFIGS.rglob("*.yaml")) - {CONFIGS / "deploy" / "compose.yaml"}):
        text = path.read_text(encoding="utf-8")
        lines = re.findall(r"^#   (fedward .*)$", text, re.MULTILINE)
        mine = path.relative_to(ROOT).as_posix()
        assert any(mine in line for line in lines) or "`make demo`" in text, path
        for line in lines:
            follow(line)
            assert all((ROOT / name).exists() for name in FILE.findall(line)), line


@of_every_page
def test_every_table_of_results_has_the_command_that_prints_it(page: Path) -> None:
    assert without_command(page.read_text(encoding="utf-8")) == []


def test_a_table_of_results_without_its_command_is_noticed() -> None:
    table = "## Speed\n\n| what | figure |\n| --- | --- |\n| a round | {} |\n"
    for figure in ("0.46", "**1.37**", "24 ms", "0.539 ± 0.027", "1,371 /s", "< 1 %"):
        assert without_command(table.format(figure)) == ["## Speed"]
        assert without_command(table.format(figure) + "\n`benchmarks/round.py`\n") == []
    assert without_command(table.format("step 4")) == []


@pytest.mark.parametrize(
    "line",
    [
        "fedward clinet ledger",
        "fedward client fly",
        "fedward simulate demo --wings",
        "fedward ran",
        "fedward --wings",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        follow(line)


@pytest.mark.parametrize("name", ["privacy.grid.relase", "privacy.gird", "client.member.Member.go"])
def test_a_function_that_does_not_exist_is_noticed(name: str) -> None:
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        resolve(name)


@of_every_page
def test_every_make_target_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9]+):", makefile, re.MULTILINE))
    code = [*blocks(page.read_text(encoding="utf-8"), ""), *INLINE.findall(prose(page))]
    named = {word for text in code for word in re.findall(r"^make ([a-z0-9]+)", text, re.MULTILINE)}
    assert named <= targets


@of_pages([path for path in PAGES if ">>> " in path.read_text(encoding="utf-8")])
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert results.attempted > 0
    assert results.failed == 0


def test_what_the_readme_tells_a_hospital_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = section(README, "### You run a hospital's IT")
    (tmp_path / "configs").symlink_to(CONFIGS)
    (text,) = blocks(told, "yaml")
    (tmp_path / "hospital.yaml").write_text(text, encoding="utf-8")
    (dataset,) = parse(HospitalConfig, yaml.safe_load(text), "hospital").datasets.values()
    assert isinstance(dataset.source, CsvConfig)
    table = load_data(DataConfig(name="breast_cancer")).table
    with (tmp_path / dataset.source.path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([dataset.source.columns.get(name, name) for name in table])
        writer.writerows(zip(*table.values(), strict=True))
    monkeypatch.chdir(tmp_path)

    outputs = []
    for line in commands("\n".join(f"```\n{block}```\n" for block in blocks(told, ""))):
        typer.main.get_command(fedward.app)(args=shlex.split(line)[1:], standalone_mode=False)
        outputs.append(capsys.readouterr().out)
    checked, simulated, verified, plotted = outputs
    assert "Verdict: clean" in checked
    assert "distributed" in simulated
    assert "verified: every link, signature, grant and epsilon" in verified
    assert "settled" in plotted
    assert (tmp_path / "spent.png").stat().st_size > 0
    kept = tmp_path / "runs" / "demo" / "distributed-1-seed-0" / "north"
    hospital = {"hospital.yaml", "keys", "roster.json", "trust.json"}
    assert {path.name for path in kept.iterdir()} >= {
        *hospital, "ledger.sqlite", "journal.jsonl", "models",
    }  # fmt: skip


def test_what_the_readme_tells_a_notebook_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = simulations.sweep.run

    def short(simulation: Simulation, **options: Any) -> Result:
        """One seed of one arm that takes no time."""
        config = replace(simulation.config, seeds=1, arms=(Arm(arm="local_only"),))
        return run(replace(simulation, config=config), **options)

    monkeypatch.setattr(simulations.sweep, "run", short)
    monkeypatch.chdir(ROOT)
    (code,) = blocks(section(README, "### You do research"), "python")
    exec(compile(code, str(README), "exec"), {})  # noqa: S102 - the README's own lines
    assert "'arm': 'local_only'" in capsys.readouterr().out


def test_the_arm_in_the_strategies_is_one() -> None:
    (text,) = blocks((ROOT / "docs" / "strategies.md").read_text(encoding="utf-8"), "yaml")
    (arm,) = yaml.safe_load(text)["arms"]
    assert parse(Arm, arm, "arm").strategy is not None


def test_the_threat_model_lists_every_code() -> None:
    listed = section(ROOT / "docs" / "threat-model.md", "## What a refusal says")
    assert re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE) == [str(code) for code in Code]


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(prose(index))}
    assert {page for page in PAGES if page.is_relative_to(index.parent)} <= {*linked, index}


def test_code_points_to_pages_that_exist() -> None:
    sources = [
        ROOT / "fedward.py",
        *(path for name in PACKAGES for path in ROOT.glob(f"{name}/**/*.py")),
    ]
    named = {
        page
        for path in sources
        for page in re.findall(r"docs/[\w./-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert named
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []
