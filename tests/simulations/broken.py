"""A task whose model no private training can bear: its normalisation mixes records."""

from __future__ import annotations

from typing import Any

from torch import nn

from learning.diagnosis import Diagnosis


class Broken(Diagnosis):
    """Logistic regression behind a batch normalisation."""

    def model(self) -> Any:
        """A model that couples the records of a batch."""
        features = self.schema.num_features
        return nn.Sequential(nn.BatchNorm1d(features, affine=False), nn.Linear(features, 1))
