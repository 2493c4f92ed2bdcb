"""A bundle carries a signed job and nothing that could run."""

from __future__ import annotations

import hashlib
import io
import struct
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from protocol.bundle import MAX_BYTES, SignedDelivery, SignedJob, open_bundle, pyproject
from protocol.errors import Code, InputError, RefusalError

# Flower's builder, under a newer pathspec than it knows.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
SIGNED = SignedJob(job=b'{"name":"sepsis \xc3\xa4"}', signature=bytes(range(64)))


def fab(files: Mapping[str, bytes | str], *, listed: bool = True) -> bytes:
    """A bundle with these files and the list of contents that Flower's builder would write."""
    contents = "\n".join(
        f"{name},{hashlib.sha256(data).hexdigest()},{8 * len(data)}"
        for name, data in ((name, _bytes(data)) for name, data in files.items())
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        if listed:
            archive.writestr(".info/CONTENT", contents)
    return buffer.getvalue()


def _bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


def test_what_flowers_builder_makes_of_the_text_is_opened(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(pyproject(SIGNED), encoding="utf-8")

    opened = open_bundle(build_fab_from_disk(tmp_path))

    assert opened == SIGNED
    assert opened.digest == hashlib.sha256(SIGNED.job).hexdigest()


def test_the_builder_keeps_the_text_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(pyproject(SIGNED), encoding="utf-8")

    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(tmp_path))) as archive:
        assert archive.read("pyproject.toml").decode() == pyproject(SIGNED)


def test_two_jobs_have_two_texts() -> None:
    other = SignedJob(job=SIGNED.job, signature=bytes(64))

    assert pyproject(other) != pyproject(SIGNED)


@pytest.mark.parametrize(
    "name", ["client/app.py", "client/bundled.py", "sitecustomize.py", "README.md", "x.pth"]
)
def test_a_bundle_with_any_other_file_is_refused(name: str) -> None:
    smuggled = fab({"pyproject.toml": pyproject(SIGNED), name: "import os"})

    with pytest.raises(RefusalError, match="other files") as refusal:
        open_bundle(smuggled)

    assert refusal.value.code is Code.INTEGRITY


def test_code_built_by_flower_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(pyproject(SIGNED), encoding="utf-8")
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "app.py").write_text("app = None\n", encoding="utf-8")

    with pytest.raises(RefusalError, match="other files"):
        open_bundle(build_fab_from_disk(tmp_path))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("client.bundled:app", "client.other:app"),
        ("dependencies = []", 'dependencies = ["evil"]'),
        ("[tool.flwr.app.config]\n", "[tool.flwr.app.config]\nseed = 1\n"),
        ('version = "1.0.0"', 'version = "1.0.1"'),
    ],
)
def test_a_pyproject_that_says_anything_else_is_refused(old: str, new: str) -> None:
    text = pyproject(SIGNED)
    assert old in text

    with pytest.raises(RefusalError, match="more than the job"):
        open_bundle(fab({"pyproject.toml": text.replace(old, new)}))


@pytest.mark.parametrize("text", ["", 'job = "a"\njob = "b"\n', "job = ''\n"])
def test_a_pyproject_without_one_job_is_refused(text: str) -> None:
    with pytest.raises(RefusalError, match="names no job"):
        open_bundle(fab({"pyproject.toml": text}))


@pytest.mark.parametrize("job", ["AAAA", "A", SIGNED.to_text()[:-4]])
def test_a_job_that_cannot_be_read_is_refused(job: str) -> None:
    text = pyproject(SIGNED).replace(SIGNED.to_text(), job)

    with pytest.raises(RefusalError, match="cannot be read"):
        open_bundle(fab({"pyproject.toml": text}))


def test_another_list_of_contents_is_refused() -> None:
    files = {"pyproject.toml": pyproject(SIGNED), ".info/CONTENT": "pyproject.toml,00,8"}

    with pytest.raises(RefusalError, match="list of contents"):
        open_bundle(fab(files, listed=False))


def test_a_missing_list_of_contents_is_refused() -> None:
    with pytest.raises(RefusalError, match="other files"):
        open_bundle(fab({"pyproject.toml": pyproject(SIGNED)}, listed=False))


def test_a_file_that_is_there_twice_is_refused() -> None:
    buffer = io.BytesIO(fab({"pyproject.toml": pyproject(SIGNED)}))
    with (
        zipfile.ZipFile(buffer, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("pyproject.toml", pyproject(SIGNED))

    with pytest.raises(RefusalError, match="other files"):
        open_bundle(buffer.getvalue())


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06" + bytes(10)])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(RefusalError, match="cannot be unpacked"):
        open_bundle(data)


def test_a_damaged_archive_is_refused() -> None:
    whole = bytearray(fab({"pyproject.toml": pyproject(SIGNED)}))
    whole[60:90] = bytes(30)

    with pytest.raises(RefusalError, match="cannot be unpacked"):
        open_bundle(bytes(whole))


def test_too_large_a_bundle_is_refused() -> None:
    with pytest.raises(RefusalError, match="too large"):
        open_bundle(bytes(MAX_BYTES + 1))


def test_a_bundle_that_unpacks_to_too_much_is_refused() -> None:
    bomb = fab({"pyproject.toml": bytes(MAX_BYTES + 1)})
    assert len(bomb) < MAX_BYTES // 100

    with pytest.raises(RefusalError, match="unpacks to too much"):
        open_bundle(bomb)


def test_a_bundle_that_unpacks_to_more_than_it_announces_takes_no_memory() -> None:
    size, announced = 8 * MAX_BYTES, 100
    bomb = fab({"pyproject.toml": bytes(size)}, listed=False)
    buffer = io.BytesIO(bomb)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(".info/CONTENT", "")
    old, new = (struct.pack("<I", number) for number in (size, announced))
    tracemalloc.start()

    with pytest.raises(RefusalError, match="cannot be unpacked"):
        open_bundle(buffer.getvalue().replace(old, new))

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MAX_BYTES // 8


def test_base64_with_loose_last_bits_is_no_second_spelling() -> None:
    jobs = (SignedJob(job=bytes(size), signature=b"") for size in range(9))
    text = next(job.to_text() for job in jobs if job.to_text().endswith("=="))
    loose = text[:-3] + chr(ord(text[-3]) + 1) + "=="

    with pytest.raises(InputError, match="signed job"):
        SignedJob.from_text(loose)


def test_other_packings_than_flowers_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("pyproject.toml", pyproject(SIGNED))
        archive.writestr(".info/CONTENT", "")

    with pytest.raises(RefusalError, match="cannot be unpacked"):
        open_bundle(buffer.getvalue())


DELIVERED = SignedDelivery(delivery=b'{"name":"sepsis"}', signature=bytes(range(64)))


def test_a_delivery_travels_like_a_job_and_is_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(pyproject(DELIVERED), encoding="utf-8")

    opened = open_bundle(build_fab_from_disk(tmp_path))

    assert opened == DELIVERED
    assert opened.digest == hashlib.sha256(DELIVERED.delivery).hexdigest()
    assert SignedDelivery.from_text(DELIVERED.to_text()) == DELIVERED
    with pytest.raises(InputError):
        SignedJob.from_text(DELIVERED.to_text())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (pyproject(DELIVERED).replace("delivery =", "job ="), "its job cannot be read"),
        (pyproject(SIGNED).replace("job =", "delivery ="), "its delivery cannot be read"),
        (pyproject(SIGNED) + f'delivery = "{DELIVERED.to_text()}"\n', "names no job"),
        (pyproject(DELIVERED) + "seed = 1\n", "more than the delivery"),
    ],
)
def test_neither_passes_for_the_other(text: str, told: str) -> None:
    with pytest.raises(RefusalError, match=told) as refusal:
        open_bundle(fab({"pyproject.toml": text}))

    assert refusal.value.code is Code.INTEGRITY
