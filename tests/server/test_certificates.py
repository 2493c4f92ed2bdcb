"""The authority and its server: what a hospital's TLS takes, and what it does not."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from protocol.errors import InputError
from server import certificates
from server.certificates import (
    AUTHORITY_DAYS,
    SERVER_DAYS,
    Issued,
    authority_hosts,
    days_left,
    load_certificate,
    load_key,
    make_authority,
    make_server,
    new_key_pem,
)

NOW = datetime.now(UTC)
HOST = "federation.example.org"
HOSTS = (HOST, "192.0.2.7", "2001:db8::7", "localhost")


def new_key() -> ec.EllipticCurvePrivateKey:
    return load_key(new_key_pem(), "a new key")


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def authority(host: str) -> Issued:
    return make_authority(host, NOW, new_key())


@pytest.fixture
def server(host: str, authority: Issued) -> Issued:
    return make_server(host, NOW, authority, new_key())


def connect(folder: Path, authority: Issued, server: Issued, host: str) -> str:
    """What a client that trusts this authority alone says of this server; "" if all is well."""
    (folder / "server.pem").write_bytes(server.pem)
    (folder / "server.key").write_bytes(
        server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "server.pem", folder / "server.key")
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.load_verify_locations(cadata=authority.pem.decode())
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(back, there, server_hostname=host)
    ends = [client, serving.wrap_bio(there, back, server_side=True)]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return ""


class TestConnection:
    def test_the_public_host_and_this_machine(
        self, tmp_path: Path, host: str, authority: Issued, server: Issued
    ) -> None:
        for name in (host, "localhost", "127.0.0.1", "::1"):
            assert connect(tmp_path, authority, server, name) == ""

    def test_no_other_host(
        self, tmp_path: Path, host: str, authority: Issued, server: Issued
    ) -> None:
        problem = connect(tmp_path, authority, server, "bank.example.org")
        assert problem.startswith("Hostname mismatch"), host

    def test_no_server_of_another_authority(
        self, tmp_path: Path, host: str, server: Issued
    ) -> None:
        other = make_authority(host, NOW, new_key())
        assert connect(tmp_path, other, server, host) != ""

    def test_an_authority_whose_key_was_stolen_vouches_for_no_other_host(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Issued
    ) -> None:
        """Whoever has the key signs what they like; the certificate says what counts."""
        monkeypatch.setattr(certificates, "authority_hosts", lambda _: ("bank.example.org",))
        bank = make_server("bank.example.org", NOW, authority, new_key())
        assert (
            connect(tmp_path, authority, bank, "bank.example.org") == "permitted subtree violation"
        )

    def test_not_before_or_after_its_time(self, tmp_path: Path) -> None:
        authority = make_authority(HOST, NOW - timedelta(days=800), new_key())
        old = make_server(HOST, NOW - timedelta(days=SERVER_DAYS + 1), authority, new_key())
        early = make_server(HOST, NOW + timedelta(days=2), authority, new_key())
        slow = make_server(HOST, NOW + timedelta(hours=23), authority, new_key())
        said = [connect(tmp_path, authority, one, HOST) for one in (old, early, slow)]
        assert said == ["certificate has expired", "certificate is not yet valid", ""]


class TestIssuing:
    def test_an_authority_names_its_hosts_the_public_one_first(
        self, host: str, authority: Issued
    ) -> None:
        hosts = authority_hosts(authority.certificate)
        assert set(hosts) == {host, "localhost", "127.0.0.1", "::1"}
        assert hosts[0] == host

    def test_an_authority_signs_no_other_authority(self, authority: Issued, server: Issued) -> None:
        for issued, limits in ((authority, (True, 0)), (server, (False, None))):
            found = issued.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
            assert (found.value.ca, found.value.path_length) == limits
            assert found.critical

    def test_another_host_needs_another_authority(self, authority: Issued, host: str) -> None:
        with pytest.raises(InputError, match="does not vouch for this host") as error:
            make_server("bank.example.org", NOW, authority, new_key())
        assert host in str(error.value)
        assert "bank.example.org" in str(error.value)

    def test_an_authority_that_ends_soon_issues_nothing(self) -> None:
        authority = make_authority(HOST, NOW, new_key())
        last = NOW + timedelta(days=AUTHORITY_DAYS - SERVER_DAYS - 1)
        issued = make_server(HOST, last, authority, new_key())
        assert issued.certificate.not_valid_after_utc < authority.certificate.not_valid_after_utc
        with pytest.raises(InputError, match="the authority ends before"):
            make_server(HOST, last + timedelta(days=2), authority, new_key())

    def test_days_that_are_left(self) -> None:
        certificate = make_authority(HOST, NOW, new_key()).certificate
        assert days_left(certificate, NOW) in (AUTHORITY_DAYS - 1, AUTHORITY_DAYS)
        assert days_left(certificate, NOW + timedelta(days=AUTHORITY_DAYS + 3)) < 0

    def test_a_host_may_be_longer_than_a_common_name(self, tmp_path: Path) -> None:
        long = ".".join(["hospital"] * 12) + ".example.org"
        authority = make_authority(long, NOW, new_key())
        issued = make_server(long, NOW, authority, new_key())
        assert connect(tmp_path, authority, issued, long) == ""


class TestReading:
    def test_what_was_written(self) -> None:
        authority = make_authority(HOST, NOW, new_key())
        assert load_certificate(authority.pem, "ca.pem") == authority.certificate
        assert authority.certificate.public_key() == authority.key.public_key()

    @pytest.mark.parametrize("kind", ["nonsense", "rsa", "password", "certificate"])
    def test_a_key_of_another_kind_is_none(self, kind: str) -> None:
        lock = BestAvailableEncryption(b"secret") if kind == "password" else NoEncryption()
        key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else new_key()
        data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        data = {
            "nonsense": b"nonsense",
            "certificate": make_authority(HOST, NOW, new_key()).pem,
        }.get(kind, data)
        with pytest.raises(InputError, match=r"ca\.key: not an elliptic-curve key"):
            load_key(data, "ca.key")

    @pytest.mark.parametrize("data", [b"", b"nonsense", new_key_pem()])
    def test_a_certificate_of_another_kind_is_none(self, data: bytes) -> None:
        with pytest.raises(InputError, match=r"ca\.pem: not a certificate"):
            load_certificate(data, "ca.pem")

    def test_an_authority_that_names_no_host_vouches_for_none(self) -> None:
        key = new_key()
        name = x509.Name([])
        certificate = (
            x509.CertificateBuilder(subject_name=name, issuer_name=name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=AUTHORITY_DAYS))
            .sign(key, hashes.SHA384())
        )
        assert authority_hosts(certificate) == ()
        with pytest.raises(InputError, match="does not vouch for this host"):
            make_server(HOST, NOW, Issued(certificate, key), new_key())
