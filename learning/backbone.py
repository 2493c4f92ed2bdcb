"""Public weights that a task builds upon: a file under its own digest, the same at every hospital.

No weights travel: the job states a digest, and each hospital puts the file with that digest into
the folder of `learning.pretrained.place`. What is read is never unpickled, and never used before
its digest was compared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from learning.pretrained import ENVIRONMENT, place
from learning.task import FloatArray
from protocol.errors import InputError, IntegrityError

_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_digest(text: str) -> None:
    """Refuse what is no SHA-256 in lower case.

    Raises:
        InputError: Says what one looks like.
    """
    if not _DIGEST.fullmatch(text):
        raise InputError(
            "backbone",
            expected="SHA-256 of the file, 64 digits in lower case",
            remedy="sha256sum FILE prints it",
        )


@lru_cache(maxsize=4)
def load_backbone(
    digest: str, entries: tuple[tuple[str, tuple[int, ...]], ...]
) -> Mapping[str, FloatArray]:
    """Weights from the file `<digest>.safetensors` of the folder, as float64.

    Args:
        digest: What the job states.
        entries: Names and shapes that are needed; others in the file are left alone, so the
            weights of a whole finished model will do.

    Raises:
        InputError: There is no such file, or it holds other tensors.
        IntegrityError: The file is another one than its name says.
    """
    path = place() / f"{digest}.safetensors"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"no backbone {digest[:12]} here",
            expected=str(path),
            found=error.strerror,
            remedy=f"put the file that the job names there, or set {ENVIRONMENT} to its folder",
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise IntegrityError(f"{path}: another file", expected=digest, found=found)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise InputError(f"{path}: no readable safetensors", found=str(error)) from None
    return {name: _tensor(path, tensors, name, shape) for name, shape in entries}


def _tensor(
    path: Path, tensors: Mapping[str, FloatArray], name: str, shape: tuple[int, ...]
) -> FloatArray:
    array = tensors.get(name)
    if array is None or array.shape != shape or array.dtype.kind != "f":
        raise InputError(
            f"{path}: tensor {name!r}",
            expected=f"real numbers, {'x'.join(map(str, shape))}",
            found="none" if array is None else f"{array.dtype}, {'x'.join(map(str, array.shape))}",
            remedy="name the widths that the backbone was made with",
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: tensor {name!r}", expected="finite numbers")
    return values
