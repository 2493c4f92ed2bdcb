"""The job: one signed document that says what is learnt, how, and with which privacy.

A job carries its exact numbers. Whoever receives it verifies them and derives none of them again,
because root finding and libm differ between machines and the models must agree to the last bit.
Floats travel as hexadecimal strings (`float.hex`), integers as integers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

from protocol.canonical import to_canonical
from protocol.config import decode
from protocol.errors import InputError

Mode = Literal["distributed", "local", "none"]
VERSION = 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a job may be called: a folder of models has this name at every hospital."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A hospital as the job names it; sizes are declared, rounded and public.

    Args:
        name: The roster's name of the hospital.
        train_size: Declared number of training patients: weight and divisor of sums.
        test_size: Declared number of held-out patients.
    """

    name: str
    train_size: int
    test_size: int

    def __post_init__(self) -> None:
        if self.train_size < 1 or self.test_size < 0:
            raise InputError(
                "declared sizes",
                expected="train_size >= 1 and test_size >= 0",
                found=f"{self.train_size} and {self.test_size}",
            )


@dataclass(frozen=True, kw_only=True)
class Named:
    """A registered task or strategy and its options, as its entry point understands them."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The optimisation, identical at every site.

    Args:
        rounds: T, releases of an update that become a model.
        spare_attempts: V, attempts that may be lost and repeated; they are paid for.
        local_steps: Gradient steps at a site between two releases; 1 in mode `distributed`.
        learning_rate: Step length of one local gradient step (mean gradient of the declared size).
        l2: Coefficient of 0.5 * ||w||^2, added after the noise (it depends on no record).
        proximal: FedProx' mu, the pull towards the round's first weights.
        seed: Public seed of the initial weights.
    """

    rounds: int
    spare_attempts: int
    local_steps: int
    learning_rate: float
    l2: float
    proximal: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Release:
    """One family of noised vectors: training updates, or evaluation counts.

    Args:
        length: Number of coordinates, P for updates.
        clip: L2 bound C of one unit's (patient's) contribution.
        scale: s, grid units per unit of the contribution.
        sensitivity: Delta in grid units, rounding included (Kairouz, Liu, Steinke 2021, Prop. 26).
        beta: Probability with which the rounding exceeds Delta, per release.
        noise_multiplier: sigma, noise of the sum over Delta; 0 only in mode `none`.
        sampling_rate: q, Poisson sampling probability of a unit; 1 is full batch.
        bound: Public bound on |coordinate| of one site's sum, in units of the contribution.
        steps: Releases that will happen if nothing fails.
        spare: Releases reserved beyond that.
        repeats: Noised sums behind one release: local steps in mode `local`, 1 elsewhere.
    """

    length: int
    clip: float
    scale: float
    sensitivity: float
    beta: float
    noise_multiplier: float
    sampling_rate: float
    bound: float
    steps: int
    spare: int
    repeats: int

    @property
    def runs(self) -> int:
        """Noised sums in all, spare ones included: what composes."""
        return (self.steps + self.spare) * self.repeats


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """What is guaranteed: (epsilon, delta) over all attempts, per patient or record.

    Args:
        mode: `distributed`, `local` or `none`.
        unit: `patient` where the schema has a patient key, else `record`.
        epsilon: Under the stated trust, over T + V attempts, for training patients.
        epsilon_worst: The same if every other hospital colludes with the coordinator.
        epsilon_evaluation: The same two for held-out patients (disjoint from training patients).
        delta: One delta for each of them.
        colluding_sites: t, hospitals that may pool what they see with the coordinator.
        update: The releases of training.
        evaluation: The releases of evaluation counts, None when nothing is evaluated.
    """

    mode: Mode
    unit: Literal["patient", "record"]
    epsilon: float
    epsilon_worst: float
    epsilon_evaluation: float
    epsilon_evaluation_worst: float
    delta: float
    colluding_sites: int
    update: Release
    evaluation: Release | None


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Exact BFV parameters of one purpose (update or evaluation); see privacy.he.parameters.

    Args:
        degree: N, coefficients per ciphertext.
        modulus: q, one prime.
        plain_modulus: t, a prime.
        radix: B of the mixed-radix digits.
        digits_per_word: Digits in one word mod t.
        max_sites: K_max, contributors for which the sum never wraps or fails to decrypt.
    """

    degree: int
    modulus: int
    plain_modulus: int
    radix: int
    digits_per_word: int
    max_sites: int


@dataclass(frozen=True, kw_only=True)
class Encryption:
    """How contributions travel. `scheme: none` is for research on public data only.

    Args:
        scheme: `bfv` or `none`.
        masks: Pairwise masks under the encryption; always on in `distributed` and `none` modes
            when encrypted.
        digit_bits: Width of a site's own digits in modes `local` and `none`.
        digit_bound: Largest |coordinate| of an update there; larger ones are clamped.
        update: Parameters for updates.
        evaluation: Parameters for evaluation counts.
        library: SEAL's version that every party must have.
    """

    scheme: Literal["bfv", "none"]
    masks: bool
    digit_bits: int
    digit_bound: float
    update: Packing | None
    evaluation: Packing | None
    library: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """When held-out patients are counted: every `every` rounds (0: only the final model)."""

    every: int


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What hospitals may hand to the coordinator: pooled metrics, the finished model."""

    metrics: bool
    model: bool


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a node needs to decide, train, protect and finish; see the module's docstring.

    Args:
        version: Protocol version.
        name: The job's name, see `NAME`; names the model that comes out.
        nonce: 32 hex digits that make two launches of the same text two jobs.
        created: RFC 3339 time.
        expires: RFC 3339 time after which no node begins.
        coordinator: Fingerprint of the signing coordinator.
        roster: SHA-256 of the pinned roster's bytes.
        dataset: The data set's name in every hospital's configuration.
        sites: Hospitals asked to take part, in the roster's order.
        min_sites: Fewest hospitals with which a sum is made.
        task: Registered task.
        schema: Columns as learning.schema reads them.
        strategy: Registered strategy.
        layout: SHA-256 of the parameter layout.
        initial_weights: SHA-256 of the initial weights (public).
        timeout_s: How long the coordinator waits for one answer.
        intended_use: One line that the model's card and every prediction carry.
    """

    version: int
    name: str
    nonce: str
    created: str
    expires: str
    coordinator: str
    roster: str
    dataset: str
    sites: tuple[Site, ...]
    min_sites: int
    task: Named
    schema: Mapping[str, Any]
    strategy: Named
    training: Training
    privacy: Privacy
    encryption: Encryption
    evaluation: Evaluation
    publication: Publication
    layout: str
    initial_weights: str
    timeout_s: int
    intended_use: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise InputError("name of a job", expected="such as sepsis-2")
        # Administrators see them in a terminal before they decide.
        shown = (self.dataset, self.intended_use, self.task.name, self.strategy.name)
        if not all(text.isprintable() for text in shown):
            raise InputError(
                "data set, intended use, task and strategy of a job",
                expected="one line of printable text each",
            )

    def to_bytes(self) -> bytes:
        """Canonical bytes; these are what is signed, sent and hashed."""
        return to_canonical(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Job:
        """Read a job from bytes whose signature has been verified.

        Raises:
            InputError: The bytes are no canonical job; the message names the key.
        """
        return _read_job(data)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal: the job's identity."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def masked(self) -> bool:
        """Whether pairwise masks cover every release, so that a missing site voids an attempt."""
        return self.encryption.scheme == "bfv" and self.encryption.masks

    def site(self, name: str) -> Site:
        """The job's entry for one hospital.

        Raises:
            InputError: The hospital is not asked to take part.
        """
        if name not in self._by_name:
            raise InputError(f"hospital {name!r} is not among the job's sites")
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Site]:
        return {site.name: site for site in self.sites}


@lru_cache(maxsize=1)
def _read_job(data: bytes) -> Job:
    """The last job read is kept: in a simulation all virtual hospitals get the same one."""
    return decode(Job, data, "job")
