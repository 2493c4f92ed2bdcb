"""The doctor: each check, right and wrong, over real sockets, proxies and certificates."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.check_command import _available
from client.checks import (
    Finding,
    check_columns,
    check_disk,
    check_keys,
    check_ledger,
    check_memory,
    check_trust,
)
from client.connection_check import check_clock, check_connection
from client.dialling import Reply, proxy_for
from client.policy import Budget, Population
from privacy.keys import Identity
from privacy.ledger import Ledger
from protocol.errors import InputError
from protocol.roster import VERSION, Roster, Trust, save_pinned
from protocol.signing import SigningKey
from server.certificates import Issued
from tests.ceremony import Founded, found, invoke, said
from tests.client.doors import HOST, authority, heads, listening, proxy, superlink
from tests.privacy.ledgers import CAPS, NOW, charge

COORDINATOR = SigningKey.generate()


@pytest.fixture(scope="module")
def ca() -> Issued:
    return authority()


def roster_for(port: int, ca: Issued | None, host: str = HOST) -> Roster:
    return Roster(
        version=VERSION,
        sequence=1,
        coordinator=COORDINATOR.public,
        address=f"{host}:{port}",
        members=(),
        ca="" if ca is None else ca.pem.decode(),
    )


def connect(
    roster: Roster, proxy: str | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, Finding]:
    findings = check_connection(
        roster,
        proxy=proxy,
        environment=environment or {},
        clock=lambda: datetime.now(UTC),
        timeout_s=5.0,
    )
    return {finding.check: finding for finding in findings}


def verdicts(findings: Mapping[str, Finding]) -> dict[str, str]:
    return {name: finding.verdict for name, finding in findings.items()}


class TestConnection:
    def test_all_the_way(self, tmp_path: Path, ca: Issued) -> None:
        with superlink(tmp_path, ca) as door:
            findings = connect(roster_for(door.port, ca))
        assert verdicts(findings) == dict.fromkeys(
            ("name", "connection", "TLS", "clock", "SuperLink"), "ok"
        )
        (head,) = door.heard
        assert head.startswith(b"POST /v1/fleet/pull-messages HTTP/1.1\r\n")
        assert b"Content-Length: 0" in head

    def test_through_a_proxy(self, tmp_path: Path, ca: Issued) -> None:
        with superlink(tmp_path, ca) as door, proxy() as way:
            findings = connect(roster_for(door.port, ca), f"http://{HOST}:{way.port}")
            assert verdicts(findings) == dict.fromkeys(
                ("name", "proxy", "TLS", "clock", "SuperLink"), "ok"
            )
            assert findings["proxy"].found.endswith(f"leads to {HOST}:{door.port}")
            assert way.heard[0].startswith(f"CONNECT {HOST}:{door.port} HTTP/1.1".encode())
            environment = {"https_proxy": f"{HOST}:{way.port}"}
            findings = connect(roster_for(door.port, ca), environment=environment)
            assert "(https_proxy)" in findings["proxy"].found

    def test_the_proxy_looks_the_coordinator_up(self) -> None:
        own = authority("fedward.invalid")
        with proxy(status=403) as way:
            roster = roster_for(1, own, "fedward.invalid")
            findings = connect(roster, f"http://{HOST}:{way.port}")
        assert verdicts(findings) == {"name": "ok", "proxy": "fail"}
        assert "allow CONNECT to fedward.invalid:1" in findings["proxy"].remedy

    def test_a_proxy_with_a_login(self, tmp_path: Path, ca: Issued) -> None:
        with superlink(tmp_path, ca) as door, proxy(login="Basic bWU6YSBi") as way:
            roster = roster_for(door.port, ca)
            assert (
                connect(roster, f"http://me:a%20b@{HOST}:{way.port}")["SuperLink"].verdict == "ok"
            )
            refused = connect(roster, f"http://{HOST}:{way.port}")["proxy"]
            assert (refused.verdict, "status 407" in refused.found) == ("fail", True)
            assert "user and password" in refused.remedy

    def test_a_proxy_that_speaks_something_else(self, ca: Issued) -> None:
        def mute(stream: socket.socket, _: object) -> None:
            heads(stream)
            stream.sendall(b"SSH-2.0-door\r\n\r\n")

        with listening(mute) as way:
            findings = connect(roster_for(1, ca), f"http://{HOST}:{way.port}")
        assert "no answer that is HTTP" in findings["proxy"].found

    def test_an_expired_certificate(self, tmp_path: Path, ca: Issued) -> None:
        issued = datetime.now(UTC) - timedelta(days=400)
        with superlink(tmp_path, ca, issued=issued) as door:
            finding = connect(roster_for(door.port, ca))["TLS"]
        assert (finding.verdict, "expired" in finding.found) == ("fail", True)
        assert "fedward server certificate renew" in finding.remedy

    def test_a_certificate_that_ends_soon(self, tmp_path: Path, ca: Issued) -> None:
        issued = datetime.now(UTC) - timedelta(days=380)
        with superlink(tmp_path, ca, issued=issued) as door:
            finding = connect(roster_for(door.port, ca))["TLS"]
        assert finding.verdict == "warn"

    def test_a_certificate_for_another_host(self, tmp_path: Path) -> None:
        other = authority("elsewhere.example.org")
        with superlink(tmp_path, other, host="elsewhere.example.org") as door:
            # Every certificate is for this machine, too, so another of its addresses is dialled.
            roster = roster_for(door.port, other, "127.0.0.1")
            assert connect(roster)["TLS"].verdict == "ok"
            finding = connect(replace(roster, address=f"ip6-not-local.invalid:{door.port}"))["name"]
        assert (finding.verdict, "not known here" in finding.found) == ("fail", True)

    def test_a_host_that_is_not_on_the_certificate(
        self, tmp_path: Path, ca: Issued, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda _, port, *more, **named: look(HOST, port, *more, **named)
        )
        with superlink(tmp_path, ca) as door:
            finding = connect(roster_for(door.port, ca, "fedward.example.org"))["TLS"]
        assert finding.verdict == "fail"
        assert "Hostname mismatch" in finding.found
        assert "another host than the roster's address" in finding.remedy

    def test_an_authority_vouches_for_no_other_host(
        self, tmp_path: Path, ca: Issued, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda _, port, *more, **named: look(HOST, port, *more, **named)
        )
        monkeypatch.setattr("server.certificates.authority_hosts", lambda _: ("bank.example.org",))
        with superlink(tmp_path, ca, host="bank.example.org") as door:
            finding = connect(roster_for(door.port, ca, "bank.example.org"))["TLS"]
        assert (finding.verdict, "permitted subtree" in finding.found) == ("fail", True)

    def test_an_authority_that_is_not_the_rosters(self, tmp_path: Path, ca: Issued) -> None:
        with superlink(tmp_path, authority()) as door:
            finding = connect(roster_for(door.port, ca))["TLS"]
        assert finding.verdict == "fail"
        assert "opens TLS connections" in finding.remedy

    def test_no_authority_no_tls_no_listener(self, ca: Issued) -> None:
        def plain(stream: socket.socket, _: object) -> None:
            stream.sendall(b"220 mail\r\n")

        with listening(plain) as door:
            assert "no authority" in connect(roster_for(door.port, None))["TLS"].found
            assert "no TLS" in connect(roster_for(door.port, ca))["TLS"].found
        finding = connect(roster_for(door.port, ca))["connection"]
        assert (finding.verdict, "firewall" in finding.remedy) == ("fail", True)

    @pytest.mark.parametrize(
        ("status", "verdict", "word"),
        [(401, "ok", ""), (200, "ok", ""), (502, "fail", "is down"), (404, "fail", "not as a Su")],
    )
    def test_what_answers(
        self, tmp_path: Path, ca: Issued, status: int, verdict: str, word: str
    ) -> None:
        with superlink(tmp_path, ca, status=status) as door:
            finding = connect(roster_for(door.port, ca))["SuperLink"]
        assert (finding.verdict, word in finding.remedy) == (verdict, True)

    @pytest.mark.parametrize(
        ("ahead_s", "verdict"),
        [(0, "ok"), (-3.6, "warn"), (-30, "fail"), (45, "ok"), (120, "warn"), (400, "fail")],
    )
    def test_a_clock_that_is_wrong(
        self, tmp_path: Path, ca: Issued, ahead_s: float, verdict: str
    ) -> None:
        with superlink(tmp_path, ca, ahead_s=ahead_s) as door:
            finding = connect(roster_for(door.port, ca))["clock"]
        assert finding.verdict == verdict, finding
        assert ("behind" in finding.found) == (ahead_s > 1) or verdict == "ok"
        assert (finding.remedy == "") == (verdict == "ok")

    def test_a_coordinator_that_does_not_say_the_time(self, tmp_path: Path, ca: Issued) -> None:
        with superlink(tmp_path, ca, dated=False) as door:
            assert connect(roster_for(door.port, ca))["clock"].verdict == "warn"

    def test_an_answer_that_is_no_http(self, tmp_path: Path, ca: Issued) -> None:
        with superlink(tmp_path, ca, status=-7) as door:
            finding = connect(roster_for(door.port, ca))["SuperLink"]
        assert finding.found.startswith("what answers is no SuperLink")

    def test_an_address_that_is_none(self, ca: Issued) -> None:
        assert connect(replace(roster_for(1, ca), address="nowhere"))["name"].verdict == "fail"


def test_a_date_in_no_known_form_is_none() -> None:
    assert check_clock(Reply(status=401, date=None), NOW).verdict == "warn"


class TestProxy:
    def test_the_configuration_comes_first_and_then_the_environment(self) -> None:
        environment = {"HTTPS_PROXY": "http://a:1", "ALL_PROXY": "http://b:2"}
        found = [
            proxy_for("host", "http://c", environment),
            proxy_for("host", None, environment),
            proxy_for("host", None, {"ALL_PROXY": "b:2"}),
        ]
        assert [str(way) for way in found] == [
            "c:80 (the configuration)",
            "a:1 (HTTPS_PROXY)",
            "b:2 (ALL_PROXY)",
        ]
        assert proxy_for("host", None, {"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": ""}) is None

    @pytest.mark.parametrize(
        ("listed", "passed"),
        [("*", True), ("example.org", True), (".example.org", True), ("x, A.EXAMPLE.org", True),
         ("ample.org", False), ("", False), (",", False)],
    )  # fmt: skip
    def test_hosts_that_need_none(self, listed: str, passed: bool) -> None:
        environment = {"https_proxy": "http://a:1", "no_proxy": listed}
        assert (proxy_for("a.example.org", None, environment) is None) is passed

    @pytest.mark.parametrize("url", ["socks5://secret:1", "http://", "http://secret:x"])
    def test_a_password_in_a_wrong_one_is_not_shown(self, url: str) -> None:
        with pytest.raises(InputError, match="proxy of the configuration") as caught:
            proxy_for("host", url, {})
        assert "secret" not in str(caught.value)


class TestKeysAndTrust:
    def test_keys(self, tmp_path: Path) -> None:
        finding, identity = check_keys(tmp_path / "keys")
        assert (finding.verdict, identity) == ("fail", None)
        made = Identity.create(tmp_path / "keys", "north")
        finding, identity = check_keys(tmp_path / "keys")
        assert finding.verdict == "ok"
        assert identity is not None
        assert identity.card() == made.card()
        (tmp_path / "keys").chmod(0o755)
        assert check_keys(tmp_path / "keys")[0].remedy.startswith("run: chmod 700")
        (tmp_path / "keys" / "node.key").chmod(0o644)
        assert "chmod 600" in check_keys(tmp_path / "keys")[0].remedy

    @pytest.fixture
    def paths(self, tmp_path: Path) -> tuple[Path, Path]:
        return tmp_path / "roster.json", tmp_path / "trust.json"

    def test_trust(self, paths: tuple[Path, Path], tmp_path: Path) -> None:
        def look(identity: Identity) -> list[tuple[str, str]]:
            findings = check_trust(*paths, identity)
            return [(item.check, item.verdict) for item in findings if isinstance(item, Finding)]

        north = Identity.create(tmp_path / "north", "north")
        south = Identity.create(tmp_path / "south", "south")
        west = Identity.create(tmp_path / "west", "west")
        assert look(north) == [("roster", "fail")]
        roster = replace(roster_for(1, None), members=(north.card(), south.card()))
        trust = Trust.pin(roster).confirm(roster, "north", north.card().fingerprint)
        save_pinned(paths[0], roster.sign(COORDINATOR), paths[1], trust)
        assert look(north) == [("roster", "ok"), ("hospitals", "warn")]
        trust = trust.confirm(roster, "south", south.card().fingerprint)
        save_pinned(paths[0], roster.sign(COORDINATOR), paths[1], trust)
        assert look(north) == [("roster", "ok"), ("hospitals", "ok")]
        assert look(west) == [("roster", "fail"), ("hospitals", "ok")]


ICU = {"icu": Population(budget=Budget(epsilon=8.0, epsilon_worst=8.0, delta=1e-5))}


class TestLedger:
    def look(self, path: Path, identity: Identity | None = None) -> list[Finding]:
        return list(check_ledger(path, ICU, identity))

    def test_from_none_to_spent(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.sqlite"
        assert "none yet" in self.look(path)[0].found
        identity = Identity.create(tmp_path / "keys", "north")
        with Ledger.open(path, identity.signing) as ledger:
            ledger.split_key("icu")
            held, budget = self.look(path, identity)
            assert (held.verdict, budget.verdict) == ("ok", "ok")
            assert budget.found == "epsilon 8 of 8 is left, 8 of 8 in the worst case"
            ledger.reserve([charge(population="icu")], CAPS, NOW)
            left = self.look(path, identity)[1].found
            assert not left.startswith("epsilon 8 ")
        stranger = Identity.create(tmp_path / "other", "north")
        assert "another key signed it" in self.look(path, stranger)[0].found

    def test_little_left(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.sqlite"
        with Ledger.open(path, SigningKey.generate()) as ledger:
            ledger.reserve([charge(population="icu")], CAPS, NOW)
        small = {"icu": Population(budget=Budget(epsilon=0.1, epsilon_worst=9.0, delta=1e-5))}
        finding = list(check_ledger(path, small, None))[1]
        assert (finding.verdict, finding.found.startswith("epsilon 0 of 0.1")) == ("warn", True)

    def test_damage(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.sqlite"
        path.write_bytes(b"no database")
        path.chmod(0o600)
        (finding,) = self.look(path)
        assert finding.verdict == "fail"


class TestMachine:
    @pytest.mark.parametrize(("free", "verdict"), [(9, "fail"), (10, "warn"), (20, "ok")])
    def test_disk(self, free: int, verdict: str) -> None:
        assert check_disk(free, 10).verdict == verdict

    @pytest.mark.parametrize(("free", "verdict"), [(9, "warn"), (10, "ok"), (None, "ok")])
    def test_memory(self, free: int | None, verdict: str) -> None:
        assert check_memory(free, 10).verdict == verdict

    def test_columns(self) -> None:
        alone = check_columns("icu", ("Zaphod", "61"), None).found
        assert alone == "2 columns; with --job FILE it is said whether a job can read them"
        assert check_columns("icu", ("a", "b"), ("a",)).verdict == "ok"
        finding = check_columns("icu", ("a",), ("a", "c", "b"))
        assert (finding.verdict, finding.found) == ("fail", "the source lacks b, c")

    def test_memory_as_linux_tells_it(self, tmp_path: Path) -> None:
        path = tmp_path / "meminfo"
        assert _available(path) is None
        path.write_text("MemTotal: 9 kB\nMemAvailable:  2048 kB\n")
        assert _available(path) == 2 * 2**20
        path.write_text("MemTotal: 9 kB\n")
        assert _available(path) is None


@pytest.fixture
def working(tmp_path: Path) -> Founded:
    """A consortium whose coordinator can be reached, and one hospital with records."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    founded = found(tmp_path, "north", "south", "east", address=f"{HOST}:{port}")
    home = founded.hospitals["north"]
    (home / "data.csv").write_text("age,sepsis\n1,no\n")
    source = {"kind": "csv", "path": "data.csv"}
    config = {
        "name": "north",
        "datasets": {"sepsis": {"source": source, "population": "icu"}},
        "populations": {"icu": {}},
    }
    founded.config("north").write_text(json.dumps(config))
    return founded


class TestCommand:
    def test_a_hospital_that_is_ready_but_for_the_network(self, working: Founded) -> None:
        config = working.config("north")
        before = sorted(path.name for path in config.parent.rglob("*"))
        report = said("client", "check", config, "--offline")
        assert report["ok"] is True
        assert {item["verdict"] for item in report["checks"]} <= {"ok", "warn"}
        assert sorted(path.name for path in config.parent.rglob("*")) == before
        result = invoke("client", "check", config, "--timeout", 2)
        assert result.exit_code == 1
        assert re.search(r"fail +connection +no connection to", result.stdout)
        assert "-> let outgoing TCP" in result.stdout
        assert "would not work here yet" in result.stdout

    def test_a_jobs_columns(self, working: Founded) -> None:
        config = working.config("north")
        job = config.parent / "job.json"
        columns = [{"name": "age", "kind": "number", "low": 0, "high": 120}]
        label = {"name": "sepsis", "classes": ["no", "yes"]}
        job.write_text(json.dumps({"schema": {"columns": columns, "label": label}}))
        assert said("client", "check", config, "--offline", "--job", job)["ok"]
        columns.append({"name": "pulse", "kind": "number", "low": 0, "high": 300})
        job.write_text(json.dumps({"columns": columns, "label": label}))
        result = invoke("client", "check", config, "--offline", "--job", job)
        assert (result.exit_code, "the source lacks pulse" in result.stdout) == (1, True)

    def test_what_cannot_be_read(self, working: Founded, tmp_path: Path) -> None:
        config = working.config("north")
        (config.parent / "data.csv").unlink()
        result = invoke("client", "check", config, "--offline")
        assert (result.exit_code, "data.csv" in result.stdout) == (1, True)
        result = invoke("client", "check", tmp_path / "none.yaml", "--json")
        assert json.loads(result.stdout)["checks"][0]["check"] == "configuration"
        assert result.exit_code == 1
