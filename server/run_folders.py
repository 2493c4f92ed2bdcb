"""The folders of a coordinator's jobs, or of its deliveries: made, listed and found."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from protocol.bundle import Signed
from protocol.errors import FedwardError, InputError
from protocol.keyfile import save_secret, sync_folder
from server.run_folder import OUTCOME, named_folder

MIN_PREFIX = 4


class Kept(Protocol):
    """A folder of something that was signed."""

    path: Path

    @property
    def digest(self) -> str:
        """Its identity.

        Raises:
            FedwardError: The folder does not hold what its name says.
        """

    @property
    def names(self) -> tuple[str, ...]:
        """What else people may call it by."""


F = TypeVar("F", bound=Kept)


class RunFolders(Generic[F]):
    """All folders of one kind.

    Args:
        base: Where they are.
        document: Name of the file with the bytes that were signed.
        signature: Name of the file with the signature.
        opened: Opens one of them.
    """

    def __init__(
        self, base: Path, document: str, signature: str, opened: Callable[[Path], F]
    ) -> None:
        self._base = base
        self._document = document
        self._signature = signature
        self._opened = opened

    def create(self, name: str, signed: Signed) -> F:
        """Keep what was signed before anybody is asked; the same again is the same folder.

        Args:
            name: What people call it.
            signed: The document and its signature.

        Raises:
            FedwardError: The disk is full or fails; there is no half-made folder.
        """
        path = self._base / named_folder(name, signed.digest)
        if path.exists():
            return self._opened(path)
        draft = self._base / f".{secrets.token_hex(8)}"
        try:
            self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.mkdir(mode=0o700)
            save_secret(draft / self._document, signed.document)
            save_secret(draft / self._signature, signed.signature)
            draft.rename(path)
            sync_folder(self._base)
        except (OSError, InputError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            found = error.strerror if isinstance(error, OSError) else error.found
            raise FedwardError(
                f"{path}: cannot be written", found=found, remedy="free space, then try again"
            ) from None
        return self._opened(path)

    def intact(self, where: Callable[[Path], bool] = lambda _: True) -> tuple[F, ...]:
        """Those that hold what their name says, in the order in which they were launched.

        Args:
            where: Only folders for which this is true are opened.
        """
        folders = (self._opened(path) for path in self._paths() if where(path))
        return tuple(folder for folder in folders if not _problem(folder))

    def unfinished(self) -> tuple[F, ...]:
        """Those without an outcome."""
        return self.intact(lambda path: not (path / OUTCOME).exists())

    def look_up(self, wanted: str) -> tuple[F, ...]:
        """Those of a name, of a folder's name or of the first digits of a digest."""
        return tuple(folder for folder in self.intact() if _fits(folder, wanted))

    def damaged(self) -> tuple[str, ...]:
        """What is wrong with folders that do not hold what their name says, such as copies."""
        return tuple(filter(None, (_problem(self._opened(path)) for path in self._paths())))

    def _paths(self) -> list[Path]:
        found = (path.parent for path in self._base.glob(f"*/{self._document}"))
        paths = [path for path in found if path.name[0] != "."]
        paths.sort(key=lambda path: ((path / self._document).stat().st_mtime_ns, path.name))
        return paths


def _problem(folder: Kept) -> str:
    """Why a folder does not hold what its name says; empty where it does."""
    try:
        _ = folder.digest
    except FedwardError as error:
        return str(error)
    return ""


def _fits(folder: Kept, wanted: str) -> bool:
    digest = len(wanted) >= MIN_PREFIX and folder.digest.startswith(wanted)
    return digest or wanted in (folder.path.name, *folder.names)
