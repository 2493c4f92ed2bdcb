"""What is deployed fits the programs: units, images, containers, examples, and their page."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from flwr.supercore.superexec.executor import factory

from client.admission import Situation, admit
from client.data.config import CsvConfig
from client.hospital import HospitalConfig
from client.node_config import NodeConfig
from learning.schema import Schema
from protocol.config import parse, read
from protocol.errors import InputError
from server.config import ServerConfig
from server.jobs import Origin, resolve
from server.requests import read_request
from tests.test_documents import blocks, follow

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "configs" / "deploy"
PAGE = ROOT / "docs" / "deploy.md"
HOSPITALS = ("north", "south", "east")
UNITS = {
    "node": "client up /srv/fedward/hospital.yaml",
    "server": "server up /srv/fedward/server.yaml",
}
ANALYSE = shutil.which("systemd-analyze")
MIB = 2**20
of_units = pytest.mark.parametrize("kind", list(UNITS))


def unit(kind: str) -> configparser.ConfigParser:
    """A unit; a key that stands there twice is an error."""
    found = configparser.ConfigParser(
        interpolation=None, delimiters=("=",), comment_prefixes=("#",)
    )
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string((DEPLOY / f"fedward-{kind}.service").read_text(encoding="utf-8"))
    return found


def size(text: str) -> int:
    """Bytes of a size as systemd and compose spell it."""
    return int(text[:-1]) * {"m": MIB, "g": 1024 * MIB}[text[-1].lower()]


class TestUnits:
    @of_units
    def test_start_what_exists(self, kind: str) -> None:
        program, _, words = unit(kind)["Service"]["ExecStart"].partition(" ")
        assert (program, words) == ("/opt/fedward/bin/fedward", UNITS[kind])
        assert follow(f"fedward {words}").name == "up"

    @of_units
    def test_confine_what_they_start(self, kind: str) -> None:
        service = unit(kind)["Service"]
        expected = {
            "NoNewPrivileges": "yes",
            "ProtectSystem": "strict",
            "ProtectHome": "yes",
            "ReadWritePaths": "/srv/fedward",
            "CapabilityBoundingSet": "",
            "Restart": "on-failure",
            "RestartPreventExitStatus": str(InputError.exit_code),
            "KillMode": "mixed",
            "OOMPolicy": "continue",
            "LimitCORE": "0",
            "UMask": "0077",
        }
        assert {name: service.get(name) for name in expected} == expected
        assert service["User"] != "root"
        assert not [name for name in service if name.startswith(("Environment", "PassEnv"))]

    def test_leave_a_node_its_time_and_its_memory(self) -> None:
        service, node = unit("node")["Service"], NodeConfig()
        assert int(service["TimeoutStopSec"]) > node.stop_s
        assert size(service["MemoryMax"]) >= (node.memory_mb + 2048) * MIB

    @of_units
    @pytest.mark.skipif(ANALYSE is None, reason="systemd-analyze: apt-get install systemd")
    def test_are_what_systemd_expects(self, kind: str, tmp_path: Path) -> None:
        text = (DEPLOY / f"fedward-{kind}.service").read_text(encoding="utf-8")
        path = tmp_path / f"fedward-{kind}.service"
        here = str(Path(sys.executable).with_name("fedward"))
        path.write_text(text.replace("/opt/fedward/bin/fedward", here))
        verified = subprocess.run(
            [str(ANALYSE), "verify", path], capture_output=True, text=True, check=False
        )
        assert (verified.returncode, verified.stderr) == (0, "")
        judged = subprocess.run(
            [str(ANALYSE), "security", "--offline=true", "--threshold=20", path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert judged.returncode == 0, judged.stdout


def instructions(name: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions, lines that go on joined."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    lines = re.sub(r"\\\n *", "", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


class TestImages:
    @of_units
    def test_hold_programs_only_and_run_as_nobody(self, kind: str) -> None:
        found = instructions(f"{kind}.Dockerfile")
        assert [rest for word, rest in found if word == "FROM"] == ["${BASE} AS build", "${BASE}"]
        assert [rest for word, rest in found if word == "COPY"] == [
            "wheels /wheels",
            "--from=build /opt/fedward /opt/fedward",
        ]
        assert ("USER", "10001:10001") in found
        assert {word for word, _ in found} <= {
            "ARG", "FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "STOPSIGNAL",
            "ENTRYPOINT", "CMD",
        }  # fmt: skip
        (pip,) = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
        assert "--no-index" in pip
        assert "--find-links /wheels" in pip

    @of_units
    def test_start_what_exists(self, kind: str) -> None:
        found = dict(instructions(f"{kind}.Dockerfile"))
        words = yaml.safe_load(found["ENTRYPOINT"]) + yaml.safe_load(found["CMD"])
        assert shlex.join(words) == f"fedward {UNITS[kind]}"
        assert follow(shlex.join(words)).name == "up"


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


KEYS = {
    "restart", "init", "read_only", "user", "cap_drop", "security_opt", "image", "build", "command",
    "tmpfs", "mem_limit", "pids_limit", "stop_grace_period", "depends_on", "volumes", "networks",
    "network_mode",
}  # fmt: skip


class TestCompose:
    def test_every_service_is_confined(self, compose: Any) -> None:
        assert set(compose["services"]) == {"coordinator", "nginx", *HOSPITALS}
        for name, service in compose["services"].items():
            assert set(service) <= KEYS, name  # no port, environment or privilege among them
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["user"] == "10001:10001"
            assert all(volume.startswith("./") for volume in service["volumes"])

    def test_commands_images_and_limits_fit(self, compose: Any) -> None:
        services, node = compose["services"], NodeConfig()
        for name in ("coordinator", *HOSPITALS):
            service, kind = services[name], "server" if name == "coordinator" else "node"
            assert shlex.join(service["command"]) == UNITS[kind]
            assert service["image"] == f"fedward-{kind}"
            assert (DEPLOY / service["build"]["dockerfile"]).name == f"{kind}.Dockerfile"
            assert service["volumes"] == [f"./{name}:/srv/fedward"]
        for name in HOSPITALS:
            assert int(services[name]["stop_grace_period"].removesuffix("s")) > node.stop_s
            assert size(services[name]["mem_limit"]) > node.memory_mb * MIB

    def test_a_hospital_reaches_the_coordinators_port_and_nothing_else(self, compose: Any) -> None:
        services = compose["services"]
        assert compose["networks"] == {name: {"internal": True} for name in HOSPITALS}
        assert [services[name]["networks"] for name in HOSPITALS] == [[name] for name in HOSPITALS]
        config = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
        (host,) = re.findall(r"(?m)^ +server_name (\S+);", config)
        assert services["coordinator"]["networks"] == {
            name: {"aliases": [host]} for name in HOSPITALS
        }
        assert services["nginx"]["network_mode"] == "service:coordinator"
        assert f"server {ServerConfig(address='a:1').bind};" in config
        mounted = {volume.split(":")[1] for volume in services["nginx"]["volumes"]}
        assert set(re.findall(r"/etc/fedward/[\w/.]+", config)) <= mounted
        assert all(volume.endswith(":ro") for volume in services["nginx"]["volumes"])


def test_the_three_hospitals_admit_their_job() -> None:
    base = DEPLOY / "three-hospitals"
    origin = Origin(coordinator="0" * 64, roster="1" * 64, now=datetime.now(UTC))
    job = resolve(read_request(base / "job.yaml"), origin)
    assert [site.name for site in job.sites] == list(HOSPITALS)
    for site in job.sites:
        config = read(HospitalConfig, base / site.name / "hospital.yaml")
        dataset = config.datasets[job.dataset]
        assert (config.name, dataset.train_size, dataset.test_size) == (
            site.name, site.train_size, site.test_size,
        )  # fmt: skip
        assert isinstance(dataset.source, CsvConfig)
        situation = Situation(
            name=site.name,
            roster=job.roster,
            policy=config.policy,
            population=config.populations[dataset.population],
            columns=parse(Schema, job.schema, "schema").column_names,
            now=origin.now,
        )
        assert admit(job, situation).job is job


class TestPage:
    def test_says_of_kubernetes_what_flower_has(self) -> None:
        text = PAGE.read_text(encoding="utf-8").split("## Kubernetes")[1]
        known = {"namespace", "image", *factory._KUBERNETES_CONFIG_FIELD_MAP}
        assert {"env", "volumes", "volume-mounts", "resources", "active-pod-budget"} <= known
        for program in ("flower-superlink", "flower-superexec"):
            path = Path(sys.executable).with_name(program)
            told = subprocess.run(
                [path, "--help"], capture_output=True, text=True, check=True
            ).stdout
            for options in re.findall(rf"`{program} ([^`]+)`", text):
                assert all(word in told for word in options.split() if word.startswith("--"))

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_the_installation_without_an_index_works(self, tmp_path: Path) -> None:
        """Its own commands, with a wheel of the same name that needs little."""
        wheel = _small_wheel(tmp_path)
        text = PAGE.read_text(encoding="utf-8").split("## Without the internet")[1]
        download, install = blocks(text.split("\n## ")[0], "")
        for script in (download, install):
            mine = script.replace("/opt/fedward", str(tmp_path / "opt"))
            mine = mine.replace("python3.11", sys.executable)
            assert wheel.name in download
            subprocess.run(["bash", "-euc", mine], cwd=wheel.parent, check=True)
        done = [str(tmp_path / "opt" / "bin" / "python"), "-c", "import small, yaml"]
        subprocess.run(done, check=True, cwd=tmp_path)


def _small_wheel(folder: Path) -> Path:
    (folder / "small.py").write_text("")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "fedward"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
        'dependencies = ["pyyaml>=6,<7"]\n'
        '[tool.hatch.build.targets.wheel]\ninclude = ["small.py"]\n'
    )
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        "carried",
        ".",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (path,) = (folder / "carried").glob("*.whl")
    return path
