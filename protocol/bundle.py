"""The bundle that carries a signed job or delivery through Flower's SuperLink, and no code.

Flower distributes an app bundle: a zip of a pyproject.toml, a list of contents and, usually, the
code to run. Here the pyproject.toml names modules that are installed already and holds the signed
document; there is one text for one document, so a node that builds the text again and finds another
byte, or another file, refuses. What a bundle says is never executed: see `client.supervisor`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.deliveries import CONTEXT
from protocol.errors import Code, FedwardError, InputError, RefusalError
from protocol.signing import verify

SERVER_APP = "server.launched:app"
CLIENT_APP = "client.bundled:app"
MAX_BYTES = 8 * 1024 * 1024
_PYPROJECT = "pyproject.toml"
_CONTENTS = ".info/CONTENT"
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LINE = re.compile(rb'^(job|delivery) = "([A-Za-z0-9_-]+={0,2})"$', re.MULTILINE)
# NotImplementedError and RuntimeError: encrypted, or packed in another way.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
    EOFError,
)
# As Flower's builder writes TOML, which reads this text and writes it again.
_TEXT = """\
[project]
name = "fedward-job"
version = "1.0.0"
description = "A signed job for installed code."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "fedward"

[tool.flwr.app.components]
serverapp = "{server}"
clientapp = "{client}"

[tool.flwr.app.config]
{kind} = "{text}"
"""


@dataclass(frozen=True, kw_only=True)
class _Signed:
    """A document's exact bytes and the coordinator's signature over them; neither is verified here.

    A subclass has the bytes in a field that is named after its kind, so that its text says which.
    """

    KIND: ClassVar[str]
    signature: bytes

    @property
    def document(self) -> bytes:
        """The document's bytes."""
        found: bytes = getattr(self, self.KIND)
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of the document's bytes, hexadecimal: its identity."""
        return hashlib.sha256(self.document).hexdigest()

    def verify(self, coordinator: bytes) -> None:
        """Check the signature, in the context of this kind of document.

        Args:
            coordinator: Ed25519 key, 32 bytes.

        Raises:
            IntegrityError: It is not this coordinator's.
        """
        verify(coordinator, self.KIND, self.document, self.signature)

    def to_text(self) -> str:
        """Base64url of the canonical bytes: a value that fits into one line of TOML."""
        return base64.urlsafe_b64encode(to_canonical(self)).decode()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `to_text` wrote.

        Raises:
            InputError: The text is no signed document of this kind, or not its one spelling.

        >>> SignedJob.from_text(SignedJob(job=b"{}", signature=b"s").to_text()).job
        b'{}'
        """
        what = f"signed {cls.KIND}"
        try:
            data = base64.b64decode(text, altchars=b"-_", validate=True)
        except ValueError:
            raise InputError(f"not a {what}", expected="base64url") from None
        signed = decode(cls, data, what)
        if signed.to_text() != text:
            raise InputError(f"not a {what}", expected="canonical base64url")
        return signed


@dataclass(frozen=True, kw_only=True)
class SignedJob(_Signed):
    """A signed job.

    Args:
        job: Canonical bytes of a `protocol.jobs.Job`.
        signature: Ed25519, context `job`.
    """

    KIND: ClassVar[str] = "job"
    job: bytes


@dataclass(frozen=True, kw_only=True)
class SignedDelivery(_Signed):
    """A signed delivery.

    Args:
        delivery: Canonical bytes of a `protocol.deliveries.Delivery`.
        signature: Ed25519, context `delivery`.
    """

    KIND: ClassVar[str] = CONTEXT
    delivery: bytes


Signed = SignedJob | SignedDelivery


def read_signed(values: Mapping[str, object]) -> Signed:
    """The document that the configuration of a run holds, by the name of its kind.

    Raises:
        InputError: It holds none, or a text that is none.
    """
    if SignedDelivery.KIND in values:
        return SignedDelivery.from_text(str(values[SignedDelivery.KIND]))
    return SignedJob.from_text(str(values.get(SignedJob.KIND, "")))


def pyproject(signed: Signed) -> str:
    """The one pyproject.toml of a document; Flower's builder keeps it byte for byte."""
    text = signed.to_text()
    return _TEXT.format(server=SERVER_APP, client=CLIENT_APP, kind=signed.KIND, text=text)


def open_bundle(fab: bytes) -> Signed:
    """The signed job or delivery of a bundle that holds nothing else.

    Guarantee: the bundle has no file but the pyproject.toml of this document and the list that
    names it, so there is no code in it that anybody could run. Whether the coordinator signed the
    document is for the caller to verify.

    Args:
        fab: The bundle as Flower delivered it.

    Raises:
        RefusalError: Anything else is in it; code `integrity`.
    """
    files = _files(fab)
    text = files[_PYPROJECT]
    found = _LINE.findall(text)
    if len(found) != 1:
        raise _refused(
            "its pyproject.toml names no job", "one line 'job = ...' or 'delivery = ...'"
        )
    kind, value = (part.decode() for part in found[0])
    try:
        signed = read_signed({kind: value})
    except FedwardError as error:
        raise _refused(f"its {kind} cannot be read", f"a signed {kind}") from error
    if pyproject(signed).encode() != text:
        raise _refused(f"its pyproject.toml says more than the {kind}", "what fedward writes")
    listed = f"{_PYPROJECT},{hashlib.sha256(text).hexdigest()},{8 * len(text)}"
    if files[_CONTENTS] != listed.encode():
        raise _refused("its list of contents is another", f"{_PYPROJECT} and nothing else")
    return signed


def _files(fab: bytes) -> dict[str, bytes]:
    """Name to content of the two files; sizes are bounded before anything is unpacked."""
    if len(fab) > MAX_BYTES:
        raise _refused("it is too large", f"at most {MAX_BYTES} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(fab)) as archive:
            members = archive.infolist()
            if sorted(member.filename for member in members) != [_CONTENTS, _PYPROJECT]:
                raise _refused("it carries other files", f"{_PYPROJECT} and {_CONTENTS} alone")
            if any(member.compress_type not in _PACKINGS for member in members):
                raise _refused("it cannot be unpacked", "stored or deflated files")
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise _refused("it unpacks to too much", f"at most {MAX_BYTES} bytes")
            return {member.filename: _content(archive, member) for member in members}
    except _DAMAGE:
        raise _refused("it cannot be unpacked", "a zip archive") from None


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """As many bytes as the archive announces; `ZipFile.read` would unpack all before it cuts."""
    with archive.open(member) as file:
        return file.read(member.file_size + 1)


def _refused(problem: str, expected: str) -> RefusalError:
    return RefusalError(
        Code.INTEGRITY,
        f"bundle of a run: {problem}",
        expected=expected,
        remedy="submit jobs with 'fedward server run' of this release",
    )
