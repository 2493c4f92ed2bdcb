"""What the documents say exists: links, files, functions, commands, codes; and examples run."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

import fedward
from client.hospital import HospitalConfig
from protocol.config import parse
from protocol.errors import Code
from simulations.config import Arm

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/py.typed"))
FOLDERS = (*PACKAGES, "tests", "benchmarks", "configs", "docs")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FILE = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
NAME = re.compile(rf"^(?:{'|'.join(PACKAGES)})(?:\.\w+)+$")
COMMAND = re.compile(r"^(?:\.venv/bin/)?(fedward( .*)?)$")


def of_pages(pages: list[Path]) -> pytest.MarkDecorator:
    """Run a test once for each page."""
    ids = [path.relative_to(ROOT).as_posix() for path in pages]
    return pytest.mark.parametrize("page", pages, ids=ids)


of_every_page = of_pages(PAGES)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, `` for those that name none."""
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [text for _, named, text in found if named == language]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page may end with, as GitHub spells it."""
    plain = (re.sub(r"[`*\[\]]", "", title).lower() for title in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


def commands(page: Path) -> Iterator[str]:
    """Every `fedward ...` that a page shows, in blocks and in sentences."""
    lines = [line.strip() for text in blocks(page, "") for line in text.splitlines()]
    for line in (*lines, *INLINE.findall(prose(page))):
        if found := COMMAND.match(line):
            yield found[1].partition(" #")[0].strip()


def follow(line: str) -> click.Command:
    """The command that a line runs; fails where a group has no such command or option."""
    words = shlex.split(line)[1:]
    command = typer.main.get_command(fedward.app)
    while isinstance(command, click.Group) and words:
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
    for line in commands(page):
        follow(line)


def test_the_readme_shows_what_each_kind_of_people_types() -> None:
    shown = {follow(line).name for line in commands(ROOT / "README.md")}
    assert shown >= {"data-check", "ledger", "plan", "simulate"}


@pytest.mark.parametrize(
    "line",
    ["fedward clinet ledger", "fedward client fly", "fedward simulate demo --wings", "fedward run"],
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
    code = [*blocks(page, ""), *INLINE.findall(prose(page))]
    named = {word for text in code for word in re.findall(r"^make ([a-z0-9]+)", text, re.MULTILINE)}
    assert named <= targets


@of_pages([path for path in PAGES if ">>> " in path.read_text(encoding="utf-8")])
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert results.attempted > 0
    assert results.failed == 0


def test_the_readmes_hospital_is_one() -> None:
    (text,) = blocks(ROOT / "README.md", "yaml")
    hospital = parse(HospitalConfig, yaml.safe_load(text), "hospital")
    assert set(hospital.datasets) == {"breast_cancer"}


def test_the_arm_in_the_strategies_is_one() -> None:
    (text,) = blocks(ROOT / "docs" / "strategies.md", "yaml")
    (arm,) = yaml.safe_load(text)["arms"]
    assert parse(Arm, arm, "arm").strategy is not None


def test_the_threat_model_lists_every_code() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    section = text.split("## What a refusal says")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [str(code) for code in Code]


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
