"""From nothing to a consortium: every command of keys and trust, as people type them."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from client.hospital import HospitalConfig
from client.node_state import StateFolder
from privacy.keys import Identity
from privacy.ledger import Ledger
from protocol.card import Card
from protocol.config import read
from protocol.errors import BusyError, InputError, IntegrityError
from protocol.journal import Journal, verify_journal
from protocol.roster import Roster, Trust, load_pinned
from protocol.signing import SigningKey, in_groups
from tests.ceremony import ADDRESS, Founded, done, found, invoke, said

THREE = ("north", "south", "east")


@pytest.fixture
def three(tmp_path: Path) -> Founded:
    return found(tmp_path, *THREE)


def refused(kind: type[Exception], *args: object, answers: str = "") -> str:
    """The message of a command that must refuse."""
    error = invoke(*args, answers=answers).exception
    assert isinstance(error, kind), error
    return str(error)


def pinned(founded: Founded, name: str) -> tuple[Roster, Trust]:
    home = founded.hospitals[name]
    trust = Trust.load(home / "trust.json")
    return load_pinned(home / "roster.json", trust), trust


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestServerInit:
    def test_makes_what_a_coordinator_needs(self, tmp_path: Path) -> None:
        home = tmp_path / "consortium"
        told = said("server", "init", home, "--address", ADDRESS)
        key = SigningKey.load(home / "keys" / "signing.key")
        assert told["coordinator"] == key.fingerprint
        roster = Roster.verify((home / "roster.json").read_bytes(), key.fingerprint)
        assert (roster.members, roster.sequence, roster.address) == ((), 1, ADDRESS)
        assert roster.ca == (home / "tls" / "ca.pem").read_text()
        text = (home / "server.yaml").read_text()
        assert "\n# webhook: " in text
        assert f'\naddress: "{ADDRESS}"\n' in text

    def test_keys_are_their_owners_alone(self, tmp_path: Path) -> None:
        done("server", "init", tmp_path / "c", "--address", ADDRESS)
        for path in (tmp_path / "c").rglob("*.key"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            path.chmod(0o640)
            assert "chmod 600" in refused(InputError, "server", "init", tmp_path / "c")
            path.chmod(0o600)

    def test_keeps_what_there_is(self, tmp_path: Path) -> None:
        done("server", "init", tmp_path / "c", "--address", ADDRESS)
        before = everything(tmp_path)
        shown = done("server", "init", tmp_path / "c")
        assert everything(tmp_path) == before
        assert "Read the fingerprint to every hospital" in shown

    @pytest.mark.parametrize("lost", ["tls/server.pem", "tls/server.key", "roster.json"])
    def test_makes_only_what_is_missing(self, tmp_path: Path, lost: str) -> None:
        home = tmp_path / "c"
        done("server", "init", home, "--address", ADDRESS)
        before = everything(home)
        (home / lost).unlink()
        if lost.endswith("server.key"):
            message = refused(InputError, "server", "init", home)
            assert "its key is missing" in message
            (home / "tls/server.pem").unlink()
        done("server", "init", home)
        after = everything(home)
        assert after.keys() == before.keys()
        changed = {path for path in after if after[path] != before[path]}
        assert all("server." in path for path in changed)

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ((), "address is not known; name it: fedward server init --address"),
            (("--address", "nowhere"), "address; expected host:port"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, args: tuple[str, ...], message: str) -> None:
        assert message in refused(InputError, "server", "init", tmp_path / "c", *args)
        assert not (tmp_path / "c").exists()

    def test_another_address_or_key_is_not_taken_silently(self, tmp_path: Path) -> None:
        home = tmp_path / "c"
        done("server", "init", home, "--address", ADDRESS)
        message = refused(InputError, "server", "init", home, "--address", "other.org:1")
        assert "names another address" in message
        stranger = found(tmp_path / "other")
        (home / "tls" / "ca.pem").write_bytes((stranger.server / "tls/ca.pem").read_bytes())
        assert "not the certificate of ca.key" in refused(InputError, "server", "init", home)

    def test_a_place_where_nothing_can_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        message = refused(InputError, "server", "init", tmp_path / "file" / "c", "--address", "a:1")
        assert "cannot be created" in message


class TestClientInit:
    def test_makes_keys_configuration_and_card(self, tmp_path: Path) -> None:
        told = said("client", "init", tmp_path / "north", "--name", "north")
        identity = Identity.load(tmp_path / "north" / "keys")
        card = Card.from_bytes(Path(told["card"]).read_bytes())
        assert card == identity.card()
        assert (told["fingerprint"], told["replaces"]) == (card.fingerprint, None)
        config = read(HospitalConfig, tmp_path / "north" / "hospital.yaml")
        assert config.name == "north"

    def test_shows_the_same_card_again(self, tmp_path: Path) -> None:
        first = said("client", "init", tmp_path / "n", "--name", "north")
        before = everything(tmp_path)
        shown = done("client", "init", tmp_path / "n")
        assert in_groups(first["fingerprint"]) in shown
        assert everything(tmp_path) == before

    def test_mistakes(self, tmp_path: Path) -> None:
        home = tmp_path / "n"
        assert "--name" in refused(InputError, "client", "init", home)
        assert "name of a hospital" in refused(InputError, "client", "init", home, "--name", "a b")
        done("client", "init", home, "--name", "north")
        message = refused(InputError, "client", "init", home, "--name", "south")
        assert "names another hospital" in message
        text = (home / "hospital.yaml").read_text()
        (home / "hospital.yaml").write_text(text.replace('name: "north"', "name: south"))
        assert "keys of another hospital" in refused(InputError, "client", "init", home)
        (tmp_path / "file").write_text("")
        message = refused(InputError, "client", "init", tmp_path / "file" / "n", "--name", "north")
        assert "cannot be created" in message


class TestEnrol:
    def test_a_roster_grows_by_editions(self, three: Founded) -> None:
        roster, _ = pinned(three, "north")
        assert (roster.sequence, [card.name for card in roster.members]) == (2, list(THREE))
        assert roster.ca
        again = three.enrol(three.card("south"))
        assert (again["changed"], again["sequence"]) == (False, 2)

    def test_a_person_is_asked(self, tmp_path: Path) -> None:
        founded = found(tmp_path)
        done("client", "init", tmp_path / "north", "--name", "north")
        card = tmp_path / "north" / "north.card.json"
        args = ("server", "enrol", card, "--server", founded.server / "server.yaml")
        before = founded.roster.read_bytes()
        assert "nothing was changed" in refused(InputError, *args, answers="n\n")
        assert founded.roster.read_bytes() == before
        shown = done(*args, answers="y\n")
        assert in_groups(Card.from_bytes(card.read_bytes()).fingerprint) in shown
        assert "Edition 2 with 1 hospitals" in shown
        assert "Nothing changed" in done(*args)

    def test_a_script_names_the_fingerprint(self, tmp_path: Path) -> None:
        founded = found(tmp_path)
        done("client", "init", tmp_path / "north", "--name", "north")
        args = (
            *("server", "enrol", tmp_path / "north" / "north.card.json"),
            *("--server", founded.server / "server.yaml", "--yes"),
        )
        assert "was not given" in refused(InputError, *args, "0" * 64)
        assert "64 hexadecimal digits" in refused(InputError, *args, "yes")

    @pytest.mark.parametrize(
        ("change", "kind", "message"),
        [
            (lambda text: text.replace('"north"', '"nord"'), IntegrityError, "does not hold"),
            (lambda text: text.replace('"version":1', '"version":2'), InputError, "same release"),
            (lambda text: text[:-1], InputError, "north.card.json"),
        ],
    )
    def test_cards_that_do_not_hold(
        self, three: Founded, change: Any, kind: type[Exception], message: str
    ) -> None:
        path = three.card("north")
        path.write_text(change(path.read_text()))
        server = three.server / "server.yaml"
        assert message in refused(kind, "server", "enrol", path, "--server", server)
        missing = three.server / "no.json"
        assert "cannot be read" in refused(
            InputError, "server", "enrol", missing, "--server", server
        )

    def test_a_name_has_one_identity(self, three: Founded, tmp_path: Path) -> None:
        done("client", "init", tmp_path / "thief", "--name", "north")
        card = tmp_path / "thief" / "north.card.json"
        with pytest.raises(InputError, match=r"another identity.*a first card.*client rotate"):
            three.enrol(card)

    def test_a_key_has_one_owner(self, three: Founded, tmp_path: Path) -> None:
        own = Identity.load(three.hospitals["north"] / "keys")
        for name, message in (("west", "has a key of 'north'"), ("NORTH", "too much like 'north'")):
            card = Card.make(name=name, signing=own.signing, exchange=own.exchange, node=own.node)
            path = tmp_path / "copy.json"
            path.write_bytes(card.to_bytes())
            with pytest.raises(InputError, match=message):
                three.enrol(path)
        key = SigningKey.load(three.server / "keys" / "signing.key")
        path.write_bytes(Card.make(name="west", signing=key, exchange=own.exchange).to_bytes())
        with pytest.raises(InputError, match="has the coordinator's identity"):
            three.enrol(path)

    def test_two_cards_of_one_hospital(self, three: Founded, tmp_path: Path) -> None:
        cards = []
        for folder in ("a", "b"):
            done("client", "init", tmp_path / folder, "--name", "west")
            cards.append(tmp_path / folder / "west.card.json")
        with pytest.raises(InputError, match="another identity"):
            three.enrol(*cards)

    def test_one_command_at_a_time(self, three: Founded) -> None:
        from server.config import Folder
        from server.registry import update

        folder = Folder.open(three.server / "server.yaml")

        def change(roster: Roster) -> Roster:
            with pytest.raises(BusyError, match="another command is changing the roster"):
                update(folder, lambda same: same)
            return roster

        update(folder, change)


class TestRosterCommand:
    def test_shows_and_exports(self, three: Founded, tmp_path: Path) -> None:
        server = ("--server", three.server / "server.yaml")
        shown = done("server", "roster", "show", *server)
        own = Identity.load(three.hospitals["north"] / "keys").card()
        assert in_groups(own.fingerprint)[:9] in shown
        path = tmp_path / "out.json"
        done("server", "roster", "export", path, *server)
        done("server", "roster", "export", path, *server)
        assert path.read_bytes() == three.roster.read_bytes()
        assert done("server", "roster", "export", "-", *server).encode()[:-1] == path.read_bytes()
        path.write_text("mine")
        assert "exists already" in refused(InputError, "server", "roster", "export", path, *server)

    def test_takes_a_hospital_out(self, three: Founded) -> None:
        server = ("--server", three.server / "server.yaml")
        told = said("server", "roster", "remove", "east", *server)
        assert (told["changed"], list(told["hospitals"])) == (True, ["north", "south"])
        assert "no hospital 'east'" in refused(
            InputError, "server", "roster", "remove", "east", *server
        )
        items = {item["name"]: item["kind"] for item in three.trust("north")["hospitals"]}
        assert items == {"north": "own", "south": "known", "east": "removed"}
        # Nobody else takes the name of a hospital that was confirmed.
        assert "east" in pinned(three, "north")[1].confirmed
        assert three.trust("east")["listed"] is False

    def test_a_new_address_is_a_new_edition(self, three: Founded) -> None:
        server = ("--server", three.server / "server.yaml")
        assert "Nothing changed" in done("server", "roster", "refresh", *server)
        path = three.server / "server.yaml"
        path.write_text(path.read_text().replace("example.org:8443", "example.org:443"))
        assert "Edition 3" in done("server", "roster", "refresh", *server)
        roster, config = three.roster, three.config("north")
        shown = done("client", "trust", roster, "--config", config)
        assert "fedward.example.org:443 NEW" in shown


class TestTrust:
    def test_every_new_hospital_is_asked_about(self, tmp_path: Path) -> None:
        founded = found(tmp_path)
        for name in THREE:
            done("client", "init", tmp_path / name, "--name", name)
        founded = Founded(founded.server, {name: tmp_path / name for name in THREE})
        founded.enrol(*(founded.card(name) for name in THREE))
        args = ("client", "trust", founded.roster, "--config", founded.config("north"))
        before = everything(tmp_path)
        assert "nothing is pinned" in refused(InputError, *args, answers="n\n")
        assert everything(tmp_path) == before
        result = invoke(*args, answers="y\ny\nn\n")
        assert result.exit_code == 0
        assert result.stderr.count("Did ") == 3
        roster, trust = pinned(founded, "north")
        assert list(trust.members(roster)) == ["north", "south"]
        # Asked again about who was left open, and about nobody else.
        result = invoke(*args, answers="y\n")
        assert result.stderr.count("Did ") == 1
        assert "east: not confirmed so far" in result.stdout
        assert list(pinned(founded, "north")[1].members(roster)) == list(THREE)
        assert invoke(*args).stderr == ""

    def test_a_script_names_the_digest(self, three: Founded) -> None:
        args = ("client", "trust", three.roster, "--config", three.config("north"), "--yes")
        assert "another roster than the one" in refused(InputError, *args, "0" * 64)
        told = three.trust("north")
        assert [item["confirmed"] for item in told["hospitals"]] == [True] * 3

    def test_a_newer_roster_counts_only_when_it_is_trusted(
        self, three: Founded, tmp_path: Path
    ) -> None:
        done("client", "init", tmp_path / "west", "--name", "west")
        three.enrol(tmp_path / "west" / "west.card.json")
        assert pinned(three, "north")[0].sequence == 2
        args = ("client", "trust", three.roster, "--config", three.config("north"))
        shown = invoke(*args, answers="n\n")
        assert "west: NEW in this roster" in shown.stdout
        assert "edition 3 (pinned: 2)" in shown.stdout
        roster, trust = pinned(three, "north")
        assert (roster.sequence, "west" in trust.members(roster)) == (3, False)

    def test_neither_an_older_roster_nor_another_coordinators(
        self, three: Founded, tmp_path: Path
    ) -> None:
        old = three.roster.read_bytes()
        said("server", "roster", "remove", "east", "--server", three.server / "server.yaml")
        three.trust("north")
        (tmp_path / "old.json").write_bytes(old)
        args = ("client", "trust", tmp_path / "old.json", "--config", three.config("north"))
        assert "not newer than the pinned" in refused(IntegrityError, *args)
        other = found(tmp_path / "other")
        args = ("client", "trust", other.roster, "--config", three.config("north"))
        assert "signed by another key" in refused(IntegrityError, *args)
        (tmp_path / "old.json").write_text("{}")
        args = ("client", "trust", tmp_path / "old.json", "--config", three.config("north"))
        assert "not a signed" in refused(IntegrityError, *args)
        args = ("client", "trust", tmp_path / "none.json", "--config", three.config("north"))
        assert "cannot be read" in refused(InputError, *args)

    def test_ones_own_name_with_anothers_keys(self, tmp_path: Path) -> None:
        founded = found(tmp_path, "north")
        done("client", "init", tmp_path / "north2", "--name", "north")
        twin = Founded(founded.server, {"north": tmp_path / "north2"})
        with pytest.raises(IntegrityError, match="other keys than ours under our name 'north'"):
            twin.trust("north")
        config = twin.config("north")
        config.write_text(config.read_text().replace('name: "north"', "name: west"))
        own = Identity.load(tmp_path / "north" / "keys")
        card = Card.make(name="west", signing=own.signing, exchange=own.exchange, node=own.node)
        (tmp_path / "north" / "keys" / "card.json").write_bytes(card.to_bytes())
        with pytest.raises(IntegrityError, match="our identity under another name"):
            founded.trust("north")

    def test_an_identity_that_the_confirmed_one_did_not_sign(
        self, three: Founded, tmp_path: Path
    ) -> None:
        server = ("--server", three.server / "server.yaml")
        said("server", "roster", "remove", "east", *server)
        done("client", "init", tmp_path / "new", "--name", "east")
        three.enrol(tmp_path / "new" / "east.card.json")
        east = next(item for item in three.trust("north")["hospitals"] if item["name"] == "east")
        assert (east["kind"], east["confirmed"]) == ("stranger", False)
        told = three.trust("north", "--forget", "east")
        east = next(item for item in told["hospitals"] if item["name"] == "east")
        assert (east["kind"], east["confirmed"]) == ("unconfirmed", True)

    def test_a_lost_roster_file_is_no_reason_to_forget(self, three: Founded) -> None:
        (three.hospitals["north"] / "roster.json").unlink()
        told = three.trust("north")
        assert [item["kind"] for item in told["hospitals"]] == ["own", "known", "known"]
        assert pinned(three, "north")[0].sequence == 2


class TestRotation:
    def spend(self, home: Path) -> str:
        """A ledger and a journal with something in it; returns the ledger's head."""
        key = SigningKey.load(home / "keys" / "signing.key")
        with Ledger.open(home / "ledger.sqlite", key) as ledger:
            ledger.split_key("patients")
            head = ledger.head
        with Journal.open(home / "journal.jsonl", key) as journal:
            journal.append("accepted", {"job": "x"})
        return head

    def test_the_new_identity_counts_from_the_roster_on(self, three: Founded) -> None:
        home, config = three.hospitals["north"], three.config("north")
        head = self.spend(home)
        before = Identity.load(home / "keys")
        told = said("client", "rotate", config)
        assert told["replaces"] == before.card().fingerprint
        assert said("client", "rotate", config) == told
        assert Identity.load(home / "keys").card() == before.card()
        assert three.enrol(three.card("north"))["cards"] == {"north": "rotated"}
        assert three.enrol(three.card("north"))["changed"] is False
        three.trust("north")
        after = Identity.load(home / "keys")
        assert after.card().fingerprint == told["fingerprint"]
        assert Identity.load(home / f"keys.{before.card().fingerprint[:8]}").card() == before.card()
        roster, trust = pinned(three, "north")
        assert trust.members(roster)["north"] == told["fingerprint"]
        with Ledger.open(home / "ledger.sqlite", after.signing) as ledger:
            assert ledger.verify().signer == told["fingerprint"]
            assert ledger.head != head
        assert verify_journal(home / "journal.jsonl", after.signing.public) == 1
        old = home / f"journal.{before.card().fingerprint[:8]}.jsonl"
        assert verify_journal(old, before.signing.public) == 2
        assert f'"file":"{old.name}"' in (home / "journal.jsonl").read_text()
        assert '"kind":"rotated"' in old.read_text().splitlines()[-1]

    def test_a_node_that_runs_keeps_its_identity(self, three: Founded) -> None:
        home = three.hospitals["north"]
        before = Identity.load(home / "keys").card()
        said("client", "rotate", three.config("north"))
        three.enrol(three.card("north"))
        with StateFolder(home / "node").locked(), pytest.raises(BusyError, match="a node runs"):
            three.trust("north")
        assert Identity.load(home / "keys").card() == before
        three.trust("north")
        assert Identity.load(home / "keys").card() != before

    def test_others_see_who_signed_it(self, three: Founded) -> None:
        told = said("client", "rotate", three.config("north"))
        three.enrol(three.card("north"))
        args = ("client", "trust", three.roster, "--config", three.config("south"))
        shown = invoke(*args, answers="y\n")
        assert "north: NEW identity, signed by the confirmed one" in shown.stdout
        assert "was " in shown.stdout
        roster, trust = pinned(three, "south")
        assert trust.members(roster)["north"] == told["fingerprint"]

    def test_interrupted_anywhere_it_is_finished_later(
        self, three: Founded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = three.hospitals["north"]
        self.spend(home)
        told = said("client", "rotate", three.config("north"))
        three.enrol(three.card("north"))

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        for target, name in (
            ("client.rotation._hand_over_journal", "ledger"),
            ("client.rotation.sync_folder", "keys"),
            ("client.trust_command.save_pinned", "pin"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(target, stop)
                digest = Roster.verify(
                    three.roster.read_bytes(), pinned(three, "north")[1].coordinator
                ).digest
                args = ("client", "trust", three.roster, "--config", three.config("north"))
                assert invoke(*args, "--yes", digest).exit_code != 0, name
        three.trust("north")
        assert Identity.load(home / "keys").card().fingerprint == told["fingerprint"]

    def test_an_old_card_does_not_come_back(self, three: Founded, tmp_path: Path) -> None:
        old = tmp_path / "old.json"
        old.write_bytes(three.card("north").read_bytes())
        said("client", "rotate", three.config("north"))
        three.enrol(three.card("north"))
        with pytest.raises(InputError, match="in the roster with another identity"):
            three.enrol(old)

    def test_a_half_made_card_is_signed_again(self, three: Founded) -> None:
        home = three.hospitals["north"]
        Identity.create(home / "keys.next", "north")
        told = said("client", "rotate", three.config("north"))
        assert told["replaces"] == Identity.load(home / "keys").card().fingerprint


class TestCertificate:
    def test_renewal_keeps_the_key_and_the_authority(self, three: Founded) -> None:
        server = ("--server", three.server / "server.yaml")
        shown = done("server", "certificate", "show", *server)
        assert shown.splitlines()[1].startswith("server       39")
        left = said("server", "certificate", "show", *server)["days_left"]
        assert left["authority"] > left["server"] > 390
        before = everything(three.server)
        assert "Nothing to do" in done("server", "certificate", "renew", *server)
        assert everything(three.server) == before
        assert said("server", "certificate", "renew", "--force", *server)["renewed"] is True
        after = everything(three.server)
        assert {Path(path).name for path in after if after[path] != before[path]} == {"server.pem"}


def test_what_the_commands_say_is_json(three: Founded) -> None:
    text = done("server", "roster", "show", "--server", three.server / "server.yaml", "--json")
    assert json.loads(text)["sequence"] == 2
