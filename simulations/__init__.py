"""The whole system on one machine; `run` is what notebooks call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulations.config import Simulation
    from simulations.results import Result
    from simulations.sweep import Progress

__all__ = ["run"]


def run(
    simulation: Simulation | Path,
    *,
    watch: Callable[[Progress], None] = lambda _: None,
    keep: Path | None = None,
) -> Result:
    """Run a simulation and return one row for each of its arms.

    Args:
        simulation: A YAML file such as configs/simulations/demo.yaml, or what
            `simulations.config.read_simulation` made of one (a frozen dataclass, so that a
            notebook can vary it with `dataclasses.replace`).
        watch: Called with progress.
        keep: Folder in which the virtual hospitals stay; left out, they are removed.

    Raises:
        InputError: Something in the configuration does not fit.
        FedwardError: A federated job failed.
    """
    # torch and Flower take seconds to import; asking for help must not.
    from simulations import sweep  # noqa: PLC0415
    from simulations.config import read_simulation  # noqa: PLC0415

    chosen = read_simulation(simulation) if isinstance(simulation, Path) else simulation
    return sweep.run(chosen, watch=watch, keep=keep)
