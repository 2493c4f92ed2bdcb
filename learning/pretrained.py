"""A pretrained language model in a local folder: found, verified and described without torch.

Three files are read and nothing else, whatever lies beside them: `config.json`, of which only known
sizes are taken, `model.safetensors`, which holds numbers, and `tokenizer.json`, which holds tables.
None of them can carry code, and no pickle is ever opened. A job pins their digest, so that every
hospital starts from the same weights.

The folder's place is each machine's own matter: the environment variable FEDWARD_PRETRAINED names
the folder that holds such folders, else ~/.fedward/pretrained. A job says a name and a digest,
never a path.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from protocol.errors import InputError
from protocol.jobs import NAME

ENVIRONMENT = "FEDWARD_PRETRAINED"
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
FILES = (CONFIG, WEIGHTS, TOKENIZER)

_HEADER = struct.Struct("<Q")
_MOST_HEADER = 100 << 20  # as the format's own library has it
_ACTIVATIONS = frozenset({"gelu", "gelu_new", "relu", "silu"})


@dataclass(frozen=True)
class Family:
    """An architecture whose classes come with the package transformers.

    Args:
        config: Name of its configuration's class.
        model: Name of its model's class.
        prefix: What stands before its tensors' names where a model with a head was saved.
        adapted: Ends of the names of the weights that get adapters: queries and values.
        keys: What is taken of `config.json`.
        width: The key of the states' size.
        spare: Places that its numbering of places leaves out.
    """

    config: str
    model: str
    prefix: str
    adapted: tuple[str, ...]
    keys: tuple[str, ...]
    width: str = "hidden_size"
    spare: int = 0


_ATTENTION = ("attention.self.query.weight", "attention.self.value.weight")
_BERT = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "hidden_act", "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id",
)  # fmt: skip
FAMILIES = {
    "bert": Family("BertConfig", "BertModel", "bert.", _ATTENTION, _BERT),
    "roberta": Family("RobertaConfig", "RobertaModel", "roberta.", _ATTENTION, _BERT, spare=2),
    "camembert": Family(
        "CamembertConfig", "CamembertModel", "roberta.", _ATTENTION, _BERT, spare=2
    ),
    "xlm-roberta": Family(
        "XLMRobertaConfig", "XLMRobertaModel", "roberta.", _ATTENTION, _BERT, spare=2
    ),
    "distilbert": Family(
        "DistilBertConfig",
        "DistilBertModel",
        "distilbert.",
        ("attention.q_lin.weight", "attention.v_lin.weight"),
        (
            "vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "activation",
            "max_position_embeddings", "pad_token_id", "sinusoidal_pos_embds",
        ),
        width="dim",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Pretrained:
    """A verified folder.

    Args:
        folder: Where it is.
        sha256: Its digest, see `folder_digest`.
        family: Its architecture.
        sizes: What `config.json` says of its sizes.
        shapes: Shape of every tensor, by name, without the family's prefix.
    """

    folder: Path
    sha256: str
    family: Family
    sizes: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @property
    def width(self) -> int:
        """Numbers of a word's state."""
        return int(self.sizes[self.family.width])

    @property
    def vocabulary(self) -> int:
        """Different numbers of word pieces."""
        return int(self.sizes["vocab_size"])

    @property
    def places(self) -> int:
        """Most word pieces of a record."""
        return int(self.sizes["max_position_embeddings"]) - self.family.spare

    @property
    def adapted(self) -> tuple[str, ...]:
        """Paths of the layers that get adapters, sorted."""
        ends = tuple(f".{end}" for end in self.family.adapted)
        return tuple(
            sorted(name.removesuffix(".weight") for name in self.shapes if name.endswith(ends))
        )

    def read(self, file: str) -> bytes:
        """A file's bytes, verified once more: nothing changes them between look and use.

        Raises:
            InputError: The folder was changed since it was opened.
        """
        data = (self.folder / file).read_bytes()
        digests = {name: _sha256(self.folder / name) for name in FILES if name != file}
        digests[file] = hashlib.sha256(data).hexdigest()
        if _joined(digests) != self.sha256:
            raise InputError(f"{self.folder}: changed while it was read")
        return data


def module_name(path: str) -> str:
    """A layer's path as the name of one module.

    >>> module_name("encoder.layer.0.attention.self.query")
    'encoder/layer/0/attention/self/query'
    """
    return path.replace(".", "/")


def place() -> Path:
    """The folder in which this machine keeps public weights."""
    return Path(os.environ.get(ENVIRONMENT) or Path.home() / ".fedward" / "pretrained")


def open_pretrained(name: str, sha256: str) -> Pretrained:
    """The folder of that name on this machine, if it is the one that the digest means.

    Args:
        name: The folder's name, see the module's docstring.
        sha256: The digest that the job pins.

    Raises:
        InputError: There is none, it is another one, or it cannot be used without its own code.
    """
    if not NAME.fullmatch(name):
        raise InputError("pretrained.name", expected="a folder's name such as clinical-bert")
    base = place()
    folder = base / name
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise InputError(
            f"the pretrained model {name!r} is not on this machine",
            expected=f"a folder {name} with {', '.join(FILES)} in {base}",
            found=f"no {', '.join(missing)}",
            remedy="copy the folder here from where the consortium keeps it",
        )
    found = folder_digest(folder)
    if found != sha256:
        raise InputError(
            f"the pretrained model {name!r} on this machine is another one",
            expected=f"SHA-256 {sha256}",
            found=found,
            remedy="copy the folder here again from where the consortium keeps it",
        )
    return _described(folder, sha256)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the three files' lines as sha256sum prints them, in hexadecimal.

    `sha256sum config.json model.safetensors tokenizer.json | sha256sum` prints the same.
    """
    stats = [(folder / file).stat() for file in FILES]
    return _digest(folder, tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in stats))


@lru_cache(maxsize=4)
def _digest(folder: Path, _: tuple[tuple[int, ...], ...]) -> str:
    """Hashing a large model takes a second, and a job is looked at several times."""
    return _joined({file: _sha256(folder / file) for file in FILES})


def _joined(digests: dict[str, str]) -> str:
    return hashlib.sha256(
        "".join(f"{digests[file]}  {file}\n" for file in FILES).encode()
    ).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _described(folder: Path, sha256: str) -> Pretrained:
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        kind = config["model_type"]
        asks_for_code = "auto_map" in config
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder / CONFIG}: no configuration of a model") from None
    if asks_for_code or kind not in FAMILIES:
        raise InputError(
            f"the pretrained model {folder.name!r} is of no family that runs without its own code",
            expected=", ".join(FAMILIES),
            found="auto_map" if asks_for_code else str(kind),
        )
    family = FAMILIES[kind]
    sizes = {key: config[key] for key in family.keys if key in config}
    activation = sizes.get("hidden_act", sizes.get("activation", "gelu"))
    numbers = {key: size for key, size in sizes.items() if size != activation}
    if activation not in _ACTIVATIONS or not all(_plain(size) for size in numbers.values()):
        raise InputError(f"{folder / CONFIG}: sizes and an activation that are known")
    if not {family.width, "vocab_size", "max_position_embeddings"} <= set(sizes):
        raise InputError(f"{folder / CONFIG}: its sizes must all be written")
    return Pretrained(folder, sha256, family, sizes, _shapes(folder / WEIGHTS, family.prefix))


def _plain(size: object) -> bool:
    return size is None or isinstance(size, int | float)


def _shapes(path: Path, prefix: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes from the header of a safetensors file; no number is read."""
    try:
        with path.open("rb") as file:
            (length,) = _HEADER.unpack(file.read(_HEADER.size))
            header = json.loads(file.read(min(length, _MOST_HEADER)))
        header.pop("__metadata__", None)
        return {
            name.removeprefix(prefix): tuple(map(int, entry["shape"]))
            for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        raise InputError(f"{path}: no safetensors file") from None
