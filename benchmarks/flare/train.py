"""What each of FLARE's sites runs: one step of gradient descent over its records in every round."""

import argparse
import time
from pathlib import Path

import numpy as np
import nvflare.client as flare
import torch
from model import Perceptron
from torch.nn.functional import cross_entropy


def main() -> None:
    """Train until FLARE says that the job is over; note when each round began."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    flare.init()
    site = flare.get_site_name()
    data = np.load(arguments.folder / "data" / f"{site}.npz")
    features, labels = torch.as_tensor(data["x"]), torch.as_tensor(data["y"])
    model = Perceptron(features.shape[1], arguments.width)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    while flare.is_running():
        received = flare.receive()
        with (arguments.folder / f"{site}.begun").open("a") as log:
            log.write(f"{time.time()}\n")
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        model.load_state_dict(
            {
                name: torch.as_tensor(np.asarray(value, dtype=np.float32)).reshape(shapes[name])
                for name, value in received.params.items()
            }
        )
        optimiser.zero_grad()
        cross_entropy(model(features), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        meta = {"NUM_STEPS_CURRENT_ROUND": 1}
        flare.send(flare.FLModel(params=model.state_dict(), meta=meta))


if __name__ == "__main__":
    main()
