"""Runs NVIDIA FLARE's recipe for federated averaging, plain or with homomorphic encryption.

Started by benchmarks/nvflare.py with the interpreter of an environment that has nvflare, torch and
tenseal. The recipe with encryption refuses FLARE's simulator, so it runs in FLARE's proof of
concept: the same programs as in production, one process per site, on this machine.
"""

import argparse
from pathlib import Path

from model import Perceptron
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe import PocEnv, SimEnv

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run one job to its end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--encrypted", action="store_true")
    parser.add_argument("--simulator", action="store_true")
    parser.add_argument("--sites", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--features", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    options = {
        "name": "benchmark",
        "model": Perceptron(arguments.features, arguments.width),
        "min_clients": arguments.sites,
        "num_rounds": arguments.rounds,
        "train_script": str(HERE / "train.py"),
        "train_args": f"--width {arguments.width} --folder {arguments.folder}",
    }
    if arguments.encrypted:
        from nvflare.app_opt.pt.recipes.fedavg_he import FedAvgRecipeWithHE  # noqa: PLC0415

        recipe = FedAvgRecipeWithHE(**options)
    else:
        recipe = FedAvgRecipe(**options)
    if arguments.simulator:
        workspace = str(arguments.folder / "simulation")
        env = SimEnv(num_clients=arguments.sites, workspace_root=workspace)
    else:
        env = PocEnv(num_clients=arguments.sites, use_he=arguments.encrypted)
    run = recipe.run(env)
    print("result", run.get_result(timeout=600.0, clean_up=False), "status", run.get_status())


if __name__ == "__main__":
    main()
