"""The way from a hospital to its coordinator, one step at a time, so that each can be explained.

It does what Flower's node will do (the same proxy variables, the roster's authority and no other,
the Fleet path), but it stops at the first step that fails and says which.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit

from cryptography import x509

from protocol.errors import FedwardError, InputError

# A request that Flower answers without a node's key by 401 and that changes nothing.
FLEET_PATH = "/v1/fleet/pull-messages"
_HEAD_BYTES = 65_536


class StepError(FedwardError):
    """One step of the way failed; problem and remedy are for the hospital's administrator."""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """An HTTP proxy.

    Args:
        host: Its name or address.
        port: Its port.
        authorization: Value of the header that logs in, empty where there is no login.
        origin: Where it was configured.
    """

    host: str
    port: int
    authorization: str
    origin: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port} ({self.origin})"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How the coordinator answered.

    Args:
        status: HTTP status.
        date: The coordinator's time, by its Date header; None where there is none.
    """

    status: int
    date: datetime | None


def proxy_for(host: str, configured: str | None, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that leads to a host, None for the straight way.

    Args:
        host: The coordinator's host.
        configured: The proxy of the hospital's configuration, which comes first.
        environment: Where HTTPS_PROXY, ALL_PROXY and NO_PROXY are looked for, also in small
            letters.

    Raises:
        InputError: A proxy is written wrongly; its text is not shown, since it may hold a password.
    """
    if configured is not None:
        return _proxy(configured, "the configuration")
    found = {name.lower(): (name, value) for name, value in environment.items() if value}
    if _passed_by(host, found["no_proxy"][1] if "no_proxy" in found else ""):
        return None
    for wanted in ("https_proxy", "all_proxy"):
        if wanted in found:
            return _proxy(found[wanted][1], found[wanted][0])
    return None


def look_up(host: str, port: int) -> tuple[str, ...]:
    """Addresses of a name.

    Raises:
        StepError: The name is not known here.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise StepError(
            f"the name {host} is not known here",
            found=str(getattr(error, "strerror", None) or "no such name"),
            remedy="ask your network team for DNS, or name a proxy that looks it up",
        ) from None
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """A TCP connection.

    Raises:
        StepError: Nobody answers.
    """
    try:
        return socket.create_connection((host, port), timeout=timeout_s)
    except OSError as error:
        raise StepError(
            f"no connection to {host}:{port}",
            found=error.strerror or "no answer in time",
            remedy="let outgoing TCP to this host and port through the firewall, and ask the "
            "coordinator whether it is up",
        ) from None


def tunnel(stream: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Let a proxy pass a connection on (CONNECT).

    Raises:
        StepError: It refuses.

    Source: RFC 9110, section 9.3.6.
    """
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        stream.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        status = _status(_head(stream))
    except (OSError, ValueError):
        status = 0
    if not 200 <= status < 300:
        raise StepError(
            f"the proxy {proxy} does not pass the connection on",
            expected="status 200",
            found=f"status {status}" if status else "no answer that is HTTP",
            remedy=(
                "write user and password into the proxy's URL"
                if status == 407
                else f"ask your network team to allow CONNECT to {target}"
            ),
        )


def secure(stream: socket.socket, host: str, ca: str) -> ssl.SSLSocket:
    """TLS, with the roster's authority and no other.

    Args:
        stream: The connection.
        host: The name that the certificate must be for.
        ca: The authority's certificate in PEM.

    Raises:
        StepError: The other side is not believed, or does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca)
    try:
        return context.wrap_socket(stream, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise StepError(
            "the coordinator's certificate is not believed",
            found=error.verify_message,
            remedy=_CERTIFICATE_REMEDIES.get(error.verify_code, _UNKNOWN_AUTHORITY),
        ) from None
    except (OSError, ValueError) as error:
        raise StepError(
            "no TLS on this connection",
            found=getattr(error, "reason", None) or getattr(error, "strerror", None) or "no TLS",
            remedy="ask the coordinator whether the port is right",
        ) from None


def peer_certificate(stream: ssl.SSLSocket) -> x509.Certificate:
    """The certificate of the other side."""
    return x509.load_der_x509_certificate(stream.getpeercert(binary_form=True) or b"")


def ask_fleet(stream: socket.socket, host: str) -> Reply:
    """Ask the SuperLink for messages, without a key: it refuses, and so shows that it is there.

    Raises:
        StepError: What answers is no HTTP.
    """
    head = (
        f"POST {FLEET_PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        "Content-Type: application/protobuf\r\nContent-Length: 0\r\n\r\n"
    )
    try:
        stream.sendall(head.encode("ascii"))
        answer = http.client.HTTPResponse(stream)
        answer.begin()
    except (OSError, ValueError, http.client.HTTPException):
        raise StepError(
            "what answers is no SuperLink",
            expected="HTTP",
            remedy="ask the coordinator whether host and port are right",
        ) from None
    return Reply(status=answer.status, date=_date(answer.getheader("Date")))


_EXPIRED = "ask the coordinator to run: fedward server certificate renew; and compare the clocks"
_OTHER_HOST = "the certificate is for another host than the roster's address; tell the coordinator"
_UNKNOWN_AUTHORITY = (
    "if a proxy here opens TLS connections, ask for an exception for this host; otherwise pin the "
    "coordinator's newest roster, which names its authority"
)
# OpenSSL's X509_V_ERR codes.
_CERTIFICATE_REMEDIES = {
    9: _EXPIRED,
    10: _EXPIRED,
    47: _OTHER_HOST,
    62: _OTHER_HOST,
    64: _OTHER_HOST,
}


def _passed_by(host: str, listed: str) -> bool:
    """Whether NO_PROXY names a host: itself, a domain that it is in, or everything."""
    names = [entry.strip().lstrip(".").lower() for entry in listed.split(",")]
    return any(name == "*" or f".{host.lower()}".endswith(f".{name}") for name in names if name)


def _proxy(url: str, origin: str) -> Proxy:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "http" or not parts.hostname:
        raise InputError(f"proxy of {origin}", expected="http://host:port")
    login = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(host=parts.hostname, port=port or 80, authorization=login, origin=origin)


def _head(stream: socket.socket) -> bytes:
    """An answer's head, byte by byte, since what follows belongs to TLS."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < _HEAD_BYTES:
        byte = stream.recv(1)
        if not byte:
            break
        head += byte
    return head


def _status(head: bytes) -> int:
    version, status, *_ = head.split(b" ", 2)
    if not version.startswith(b"HTTP/1."):
        raise ValueError("not HTTP")
    return int(status[:3])


def _date(text: str | None) -> datetime | None:
    try:
        found = None if text is None else parsedate_to_datetime(text)
    except ValueError:
        return None
    return None if found is None or found.tzinfo is None else found
