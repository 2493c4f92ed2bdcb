"""The network that NVIDIA FLARE trains: a perceptron of the size that Fedward is given."""

import torch
from torch import nn


class Perceptron(nn.Module):
    """Features to two classes through two equal hidden layers."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        # FLARE writes a job's arguments from the attributes of their names.
        self.features, self.width = features, width
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(features, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 2),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scores of the two classes."""
        scores: torch.Tensor = self.layers(features)
        return scores
