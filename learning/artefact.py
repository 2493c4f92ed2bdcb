"""A finished model on disk: weights, card, checksums and signature, in `store/name/version/`.

A model appears whole or not at all: it is written into a hidden folder beside its place, forced to
disk, and renamed. `SHA256SUMS` has the format of sha256sum, so anyone can check a model without
this program; whatever differs by one bit is refused with its name and digest.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from learning.card import ModelCard
from learning.outputs import Answers, Output
from learning.preprocess import VERSION
from learning.signature import SIGNATURE, check_signature, sign_model
from learning.task import FloatArray, FloatVector, Task, load_task
from learning.temperature import calibrated, chosen
from protocol.errors import InputError, IntegrityError
from protocol.signing import SigningKey
from protocol.tensors import weights_digest

INCOMING = ".incoming-"
RIGHT = "calibrated"
CARD, WEIGHTS, SUMS = "card.json", "weights.safetensors", "SHA256SUMS"

_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY})


@dataclass(frozen=True)
class Model:
    """A verified model, ready to predict."""

    card: ModelCard
    task: Task
    weights_P: FloatVector  # noqa: N815 - the shape is part of the name

    def predict(self, x_NF: FloatArray) -> FloatArray:
        """Probabilities N x C of features N x F."""
        return self.task.predict(self.weights_P, x_NF)

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """What `answers` tells: the task's outputs, and probabilities set right by the card."""
        if self._temperature_C is None:
            return self.task.outputs
        told = "Probabilities set right by the temperature on the model's card"
        return (*self.task.outputs, Output(name=RIGHT, columns=self._columns, meaning=told))

    def answers(self, predicted_NC: FloatArray) -> Answers:
        """The outputs of predictions N x C by name, each row independent of the others."""
        found = self.task.answers(predicted_NC)
        if self._temperature_C is None:
            return found
        return {**found, RIGHT: calibrated(predicted_NC, self._temperature_C)}

    @cached_property
    def _columns(self) -> tuple[str, ...]:
        """Classes or labels whose probabilities the task tells."""
        return {one.name: one.columns for one in self.task.outputs}.get("probabilities", ())

    @cached_property
    def _temperature_C(self) -> FloatVector | None:  # noqa: N802 - the shape is part of the name
        return chosen(self.card.metrics, self._columns)


def save(
    store: Path, card: ModelCard, weights_P: FloatVector, key: SigningKey | None = None
) -> Path:
    """Write a model into the store, all or nothing; saving the same model again changes nothing.

    Args:
        store: The folder of all models.
        card: What is known of the model.
        weights_P: Its weights.
        key: The identity of the node that finished it; without one it is not signed.

    Raises:
        InputError: Another model has this name and version, the card states other weights, or the
            disk refuses.
        IntegrityError: What stands under this name and version was changed.
    """
    layout = load_task(card.task, card.schema).layout()
    if (layout.digest, weights_digest(weights_P)) != (card.digests.layout, card.digests.weights):
        raise InputError(f"model {card.label}: its card states other weights")
    tensors = {name: np.ascontiguousarray(one) for name, one in layout.split(weights_P).items()}
    files = {CARD: card.to_bytes(), WEIGHTS: save_tensors(tensors)}
    files[SUMS] = _sums(files)
    if key is not None:
        files[SIGNATURE] = sign_model(key, card.label, files[SUMS])
    place = store / card.name / str(card.version)
    if not place.exists():
        try:
            _publish(place, files)
        except OSError as error:
            raise InputError(
                f"model {card.label} cannot be written", found=error.strerror
            ) from error
    if verify(place).digests != card.digests:
        raise InputError(
            f"model {card.label} exists and is another one", remedy="choose the next version"
        )
    return place


def _sums(files: Mapping[str, bytes]) -> bytes:
    """The checksum file of card and weights, as sha256sum writes it."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in (CARD, WEIGHTS))
    return "".join(lines).encode()


def _publish(place: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a hidden folder, force them to disk, and give it its name."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    incoming = Path(tempfile.mkdtemp(prefix=INCOMING, dir=place.parent))
    # Held while the folder is filled, so that `clear_stale` can tell it from one left behind.
    lock = os.open(incoming, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, data in files.items():
            with (incoming / name).open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _sync(incoming)
        incoming.rename(place)
        _sync(place.parent)
    except OSError as error:
        # A folder that is not empty is never replaced: whoever came first has the name.
        if error.errno not in _TAKEN:
            raise
    finally:
        os.close(lock)
        shutil.rmtree(incoming, ignore_errors=True)


def clear_stale(store: Path) -> None:
    """Remove what processes that were killed while they saved a model have left in the store.

    A folder that a living process is filling stays.
    """
    for incoming in store.glob(f"*/{INCOMING}*"):
        try:
            lock = os.open(incoming, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(incoming, ignore_errors=True)
        except OSError:
            continue
        finally:
            os.close(lock)


def _sync(folder: Path) -> None:
    """Force a folder's entries to disk, without which a rename may be lost."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(place: Path) -> dict[str, bytes]:
    """The files of a model, after each was compared with its checksum."""
    label = f"model {place.parent.name}/{place.name}"
    try:
        files = {name: (place / name).read_bytes() for name in (CARD, WEIGHTS, SUMS)}
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise InputError(f"{label} is not in the store, or lacks {missing}") from error
    except OSError as error:
        raise InputError(f"{label} cannot be read", found=error.strerror) from error
    stated = dict(
        zip((CARD, WEIGHTS), files[SUMS].decode(errors="replace").split("\n"), strict=False)
    )
    for name in (CARD, WEIGHTS):
        found = hashlib.sha256(files[name]).hexdigest()
        line = stated.get(name, "")
        if line != f"{found}  {name}":
            raise IntegrityError(
                f"{label}: {name} or {SUMS} was changed",
                expected=f"the line {line!r} of {SUMS}",
                found=f"SHA-256 {found}",
                remedy="fetch the model again",
            )
    if files[SUMS] != _sums(files):
        raise IntegrityError(f"{label}: {SUMS} holds more than two checksums")
    return files


def _card(place: Path, files: Mapping[str, bytes]) -> ModelCard:
    card = ModelCard.from_bytes(files[CARD])
    if card.label != f"{place.parent.name}/{place.name}":
        raise IntegrityError(
            f"model {place.parent.name}/{place.name} is another one", found=card.label
        )
    return card


def verify(place: Path, signers: Collection[str] | None = None) -> ModelCard:
    """The card of the model in a folder, after every file was compared with its checksum.

    Args:
        place: The model's folder.
        signers: Fingerprints of the keys that may have signed it; None not to ask who signed.

    Raises:
        InputError: There is no model, it is not signed, or its card belongs to another release of
            this program.
        IntegrityError: A file was changed, or another key signed; the message has the file's name
            and digest.
    """
    return _verified(place, signers)[0]


def _verified(place: Path, signers: Collection[str] | None) -> tuple[ModelCard, dict[str, bytes]]:
    """Card and files of a model, checksums and signature verified."""
    files = _read(place)
    card = _card(place, files)
    if signers is not None:
        check_signature(place, card.label, files[SUMS], signers)
    return card, files


def load(place: Path, signers: Collection[str] | None = None) -> Model:
    """Read a model, verified, with the task that predicts with it.

    Args:
        place: The model's folder.
        signers: Fingerprints of the keys that may have signed it; None not to ask who signed.

    Raises:
        InputError: There is no model, it is not signed, or this installation lacks what it needs.
        IntegrityError: A file was changed, another key signed, or the weights are not those that
            the card states.
    """
    card, files = _verified(place, signers)
    if card.preprocessing != VERSION:
        raise InputError(
            f"model {card.label} was made with another preprocessing",
            expected=f"version {VERSION}",
            found=f"version {card.preprocessing}",
            remedy="install the release that made it",
        )
    task = load_task(card.task, card.schema)
    try:
        weights_P = task.layout().join(load_tensors(files[WEIGHTS]))
    except (SafetensorError, IntegrityError) as error:
        raise IntegrityError(f"model {card.label}: {WEIGHTS} does not fit the task") from error
    found = weights_digest(weights_P)
    if (task.layout().digest, found) != (card.digests.layout, card.digests.weights):
        raise IntegrityError(
            f"model {card.label}: other weights than the card states",
            expected=f"SHA-256 {card.digests.weights}",
            found=found,
        )
    weights_P.flags.writeable = False
    return Model(card, task, weights_P)


def versions(store: Path, name: str) -> tuple[int, ...]:
    """Versions of a model in the store, ascending; empty if there are none."""
    folder = store / name
    if not folder.is_dir():
        return ()
    return tuple(sorted(int(path.name) for path in folder.iterdir() if _is_version(path)))


def models(store: Path) -> tuple[tuple[str, int], ...]:
    """Every (name, version) in the store, sorted."""
    names = sorted(path.name for path in store.iterdir()) if store.is_dir() else []
    return tuple((name, version) for name in names for version in versions(store, name))


def _is_version(path: Path) -> bool:
    return _VERSION.fullmatch(path.name) is not None and path.is_dir()
