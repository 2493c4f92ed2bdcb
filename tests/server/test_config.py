"""The coordinator's configuration: what is refused, and where its files are."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import InputError, IntegrityError
from protocol.roster import Roster
from protocol.signing import SigningKey
from server.config import Folder, ServerConfig

ADDRESS = "federation.example.org:443"


class TestBind:
    @pytest.mark.parametrize("bind", ["127.0.0.1:1", "127.8.8.8:65535", "[::1]:80", "localhost:80"])
    def test_this_machine_is_the_default_and_allowed(self, bind: str) -> None:
        assert ServerConfig(address=ADDRESS).bind == "127.0.0.1:8000"
        assert ServerConfig(address=ADDRESS, bind=bind).bind == bind

    @pytest.mark.parametrize("bind", ["0.0.0.0:8000", "10.0.0.7:8000", "[::]:80", "example.org:80"])
    def test_others_need_a_shield_and_learn_why(self, bind: str) -> None:
        with pytest.raises(InputError, match=r"Control and Runtime APIs.*shielded: true"):
            ServerConfig(address=ADDRESS, bind=bind)
        assert ServerConfig(address=ADDRESS, bind=bind, shielded=True).bind == bind

    @pytest.mark.parametrize("text", ["", "8000", ":8000", "host:", "host:65536", "h:x"])
    def test_an_address_has_a_host_and_a_port(self, text: str) -> None:
        with pytest.raises(InputError, match=r"address; expected host:port"):
            ServerConfig(address=text)
        with pytest.raises(InputError, match=r"bind: address; expected host:port"):
            ServerConfig(address=ADDRESS, bind=text)


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org", "https://", "file:///etc"])
def test_a_webhook_is_a_web_address(url: str) -> None:
    with pytest.raises(InputError, match=r"^webhook; expected a URL"):
        ServerConfig(address=ADDRESS, webhook=url)
    assert ServerConfig(address=ADDRESS, webhook="http://127.0.0.1:9/x").webhook


def test_patience_is_not_negative() -> None:
    with pytest.raises(InputError, match=r"patience_s; expected >= 0"):
        ServerConfig(address=ADDRESS, patience_s=-1.0)


class TestFolder:
    def write(self, folder: Path, text: str = f"address: {ADDRESS}\n") -> Path:
        file = folder / "server.yaml"
        file.write_text(text)
        return file

    def test_paths_start_at_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write(tmp_path, f"address: {ADDRESS}\ntls: certificates\nstate: {tmp_path}/var\n")
        monkeypatch.chdir(tmp_path)
        folder = Folder.open(Path("server.yaml"))
        assert folder.signing_key == tmp_path / "keys" / "signing.key"
        assert folder.ca == tmp_path / "certificates" / "ca.pem"
        assert folder.ca_key == tmp_path / "certificates" / "ca.key"
        assert folder.certificate == tmp_path / "certificates" / "server.pem"
        assert folder.certificate_key == tmp_path / "certificates" / "server.key"
        assert (folder.jobs, folder.state) == (tmp_path / "jobs", tmp_path / "var")

    def test_only_its_own_roster_is_loaded(self, tmp_path: Path) -> None:
        folder = Folder.open(self.write(tmp_path))
        folder.signing_key.parent.mkdir()
        SigningKey.generate().save(folder.signing_key)
        key, stranger = folder.load_key(), SigningKey.generate()
        with pytest.raises(InputError, match=r"roster\.json: cannot be read.*enrol a hospital"):
            folder.load_roster(key.fingerprint)
        for signer in (stranger, key):
            mine = Roster(
                version=1, sequence=1, coordinator=signer.public, address=ADDRESS, members=()
            )
            folder.roster.write_bytes(mine.sign(signer))
            if signer is stranger:
                with pytest.raises(IntegrityError, match=r"roster\.json: .*another key"):
                    folder.load_roster(key.fingerprint)
        assert folder.load_roster(key.fingerprint).address == ADDRESS
