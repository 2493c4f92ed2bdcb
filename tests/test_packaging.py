"""One list of packages everywhere, and a wheel that holds what it needs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = SETTINGS["project"]
TOOL: dict[str, Any] = SETTINGS["tool"]
SHIPPED: list[str] = TOOL["hatch"]["build"]["targets"]["wheel"]["packages"]
PACKAGES = sorted(set(SHIPPED) - {"fedward.py"})


class TestOneList:
    def test_the_wheel_ships_the_command_and_every_package(self) -> None:
        assert "fedward.py" in SHIPPED
        found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
        assert sorted(found) == PACKAGES

    def test_every_package_says_that_it_is_typed(self) -> None:
        assert sorted(path.parent.name for path in ROOT.glob("*/py.typed")) == PACKAGES

    def test_imports_are_watched_in_every_package(self) -> None:
        assert sorted(TOOL["importlinter"]["root_packages"]) == PACKAGES
        layers = [
            part
            for line in TOOL["importlinter"]["contracts"][0]["layers"]
            for part in line.split(" | ")
        ]
        assert sorted(layers) == PACKAGES

    def test_types_are_checked_in_all_code(self) -> None:
        others = {"fedward.py", "tests", "benchmarks"}
        assert sorted(set(TOOL["mypy"]["files"]) - others) == PACKAGES
        assert others <= set(TOOL["mypy"]["files"])

    def test_lines_are_counted_in_all_code(self) -> None:
        assert sorted(TOOL["coverage"]["run"]["source"]) == sorted([*PACKAGES, "fedward"])

    def test_every_package_has_its_folder_of_tests(self) -> None:
        assert {path.parent.name for path in ROOT.glob("tests/*/__init__.py")} >= set(PACKAGES)

    def test_every_folder_of_code_is_a_package(self) -> None:
        """A folder without __init__.py is not imported where it is tested as a wheel."""
        for name in PACKAGES:
            for module in (ROOT / name).rglob("*.py"):
                assert (module.parent / "__init__.py").exists(), module


class TestNames:
    @pytest.mark.parametrize("name", [*PACKAGES, "fedward"])
    def test_no_other_distribution_owns_one_of_ours(self, name: str) -> None:
        assert set(packages_distributions().get(name, [])) <= {"fedward"}
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        assert Path(found.origin).is_relative_to(ROOT)

    def test_names_that_opacus_takes_are_not_shipped(self) -> None:
        taken = {name for name, owners in packages_distributions().items() if "opacus" in owners}
        assert {"benchmarks", "examples"} <= taken
        assert not taken & set(PACKAGES)

    def test_no_package_hides_a_module_of_the_standard_library(self) -> None:
        assert not set(PACKAGES) & sys.stdlib_module_names

    @pytest.mark.parametrize("group", ["fedward.tasks", "fedward.strategies"])
    def test_entry_points_are_installed_and_lead_somewhere(self, group: str) -> None:
        declared: dict[str, str] = PROJECT["entry-points"][group]
        installed = distribution("fedward").entry_points.select(group=group)
        assert {entry.name: entry.value for entry in installed} == declared
        for entry in installed:
            assert isinstance(entry.load(), type), entry.name


def make(*arguments: str) -> str:
    """What make prints when it is not called by another make."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=alone, capture_output=True, text=True, check=True
    ).stdout


class TestMakefile:
    def test_says_what_can_be_made(self) -> None:
        (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        told = re.findall(r"^make (\w+) +\w", make(), re.MULTILINE)
        assert sorted(told) == sorted(phony.split())

    def test_the_demo_needs_no_developers_tools(self) -> None:
        done = make("--dry-run", "--always-make", "demo")
        assert "'.[simulation]'" in done
        assert "dev" not in done
        assert done.rstrip().endswith("fedward simulate configs/simulations/demo.yaml")

    def test_examples_in_docstrings_are_run_in_every_package(self) -> None:
        (line,) = [line for line in make("-n", "check").splitlines() if "--doctest-modules" in line]
        assert sorted(line.split("--doctest-modules")[1].split()) == sorted(SHIPPED)

    def test_continuous_integration_runs_the_test_command(self) -> None:
        script = ROOT / ".ci" / "run"
        assert os.access(script, os.X_OK)
        assert script.read_text().splitlines()[-1] == "make test"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def wheel(folder: Path) -> Path:
    (path,) = folder.glob("*.whl")
    return path


def tracked(*folders: str) -> set[str]:
    """Files of these folders that belong to the project."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {line for line in done.stdout.splitlines() if (ROOT / line).exists()}


class TestWheel:
    def test_holds_every_file_of_the_packages_and_no_other(self, built: Path) -> None:
        with zipfile.ZipFile(wheel(built)) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
        configurations = {f"simulations/{name}" for name in tracked("configs")}
        assert names == tracked(*SHIPPED) | configurations
        assert {"fedward.py", "protocol/py.typed"} <= names
        assert "simulations/configs/simulations/demo.yaml" in names

    def test_carries_licence_command_and_entry_points(self, built: Path) -> None:
        info = f"fedward-{PROJECT['version']}.dist-info"
        with zipfile.ZipFile(wheel(built)) as archive:
            licence = archive.read(f"{info}/licenses/LICENSE")
            entries = archive.read(f"{info}/entry_points.txt").decode()
        assert licence == (ROOT / "LICENSE").read_bytes()
        assert "fedward = fedward:main" in entries
        assert "[fedward.strategies]" in entries

    def test_the_source_archive_holds_configurations_tests_and_documents(self, built: Path) -> None:
        (path,) = built.glob("*.tar.gz")
        with tarfile.open(path) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        assert tracked("configs", "tests", "docs", "Makefile", "README.md") <= names
        assert "configs/simulations/demo.yaml" in names

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    def test_command_and_demo_run_from_the_wheel_alone(self, built: Path, tmp_path: Path) -> None:
        """In an environment and a folder where nothing of the repository is."""
        python = tmp_path / "venv" / "bin" / "python"
        extra = PROJECT["optional-dependencies"]["simulation"]
        data = [line for line in extra if line.startswith("scikit-learn")]
        for command in (
            [sys.executable, "-m", "venv", str(tmp_path / "venv")],
            [str(python), "-m", "pip", "install", "-q", str(wheel(built)), *data],
        ):
            subprocess.run(command, check=True, cwd=tmp_path)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        for arguments, told in (
            (["--help"], "Coordinator"),
            (["--version"], PROJECT["version"]),
            (["simulate", "demo", "--seeds", "1", "--quiet"], "distributed"),
        ):
            done = subprocess.run(
                [str(python.with_name("fedward")), *arguments],
                cwd=tmp_path,
                env=clean,
                capture_output=True,
                text=True,
                check=True,
            )
            assert told in done.stdout
        assert (tmp_path / "results" / "demo" / "result.png").exists()
