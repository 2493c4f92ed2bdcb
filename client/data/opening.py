"""From a configuration to its source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.data.arrays import ImageFolder, IndexedSource, NpzSource, load_series
from client.data.config import (
    CsvConfig,
    DicomConfig,
    FhirConfig,
    ImagesConfig,
    NpzConfig,
    OmopConfig,
    ParquetConfig,
    SeriesConfig,
    SourceConfig,
    SqlConfig,
    WfdbConfig,
)
from client.data.database import SqlSource, origin
from client.data.dicom import DicomSource
from client.data.fhir import FhirSource
from client.data.mapped import Mapped
from client.data.omop import visits
from client.data.parquet import ParquetSource
from client.data.source import Source
from client.data.tabular import CsvSource
from client.data.waveforms import Waveforms


def open_source(config: SourceConfig, base: Path) -> Source:
    """The source of a configuration whose relative paths start at the folder `base`.

    Nothing is opened yet; what is wrong with the source shows when it is read.
    """
    database = isinstance(config, SqlConfig | OmopConfig)
    place = name_of(config) if database else str(base / name_of(config))
    return Mapped(_own(config, base), place, config.columns)


def name_of(config: SourceConfig) -> str:
    """What people call a source: its path, or its database without the user."""
    if isinstance(config, SqlConfig | OmopConfig):
        return origin(config.database)
    return str(config.path)


def _own(config: SourceConfig, base: Path) -> Source:
    """The source under its own names of columns."""
    source: Source = _OPENERS[type(config)](config, base)
    return source


def _series(config: SeriesConfig, base: Path) -> Source:
    index = CsvSource(base / config.index)
    return IndexedSource(base / config.path, index, config.file, "series", load_series)


def _wfdb(config: WfdbConfig, base: Path) -> Source:
    index, load = CsvSource(base / config.index), Waveforms(config).load
    return IndexedSource(base / config.path, index, config.file, "series", load)


_OPENERS: dict[type, Callable[[Any, Path], Source]] = {
    CsvConfig: lambda config, base: CsvSource(base / config.path, config.delimiter),
    ParquetConfig: lambda config, base: ParquetSource(base / config.path),
    SqlConfig: lambda config, base: SqlSource(
        config.database, base, config.query, config.parameters
    ),
    OmopConfig: lambda config, base: SqlSource(config.database, base, *visits(config)),
    FhirConfig: lambda config, base: FhirSource(base / config.path, config),
    NpzConfig: lambda config, base: NpzSource(base / config.path),
    ImagesConfig: lambda config, base: ImageFolder(base, config),
    SeriesConfig: _series,
    WfdbConfig: _wfdb,
    DicomConfig: lambda config, base: DicomSource(base, config),
}
