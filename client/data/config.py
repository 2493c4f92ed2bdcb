"""What a hospital writes about where its records are: one dataclass for each kind of source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from protocol.errors import InputError

_DATABASE = re.compile(r"(sqlite|postgresql(?:\+psycopg)?)://")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What every source can be told about its columns.

    Args:
        columns: From a schema's name to the source's name of the column; columns that are called
            alike need no entry.
        units: From a schema's name to the unit that the column has here; without an entry the
            numbers are in the schema's unit.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CsvConfig(Naming):
    """A text file with a header.

    Args:
        path: The file, or a folder of such files with the same header, read by their names' order.
        delimiter: The character between two cells.
    """

    kind: Literal["csv"]
    path: Path
    delimiter: str = ","

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n\0 ':
            raise InputError(
                "delimiter", expected="one character other than a quote, a blank or a line's end"
            )


@dataclass(frozen=True, kw_only=True)
class ParquetConfig(Naming):
    """A Parquet file, or a folder of such files with the same columns, read by their names' order.

    Columns of lists of equally many numbers are arrays: one series or image a row.
    """

    kind: Literal["parquet"]
    path: Path


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database, which is only read.

    Args:
        url: `postgresql://user@host:port/name`, or `sqlite:///file`; never with a password.
        password_file: A file with the password and nothing else, which only its owner may read.
            Left out, PostgreSQL's own ways hold: a password file of libpq, a certificate, peer.
        timeout_s: How long the database may work before each next batch.
    """

    url: str
    password_file: Path | None = None
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        if not _DATABASE.match(self.url):
            raise InputError("url", expected="postgresql://user@host/name or sqlite:///file")
        authority = self.url.split("://", 1)[1].split("/", 1)[0]
        if ":" in authority.rpartition("@")[0] or "password" in self.url.lower():
            raise InputError(
                "url: a password stands in it",
                expected="a user's name only",
                remedy="write the password into a file and name it under password_file",
            )
        if not self.timeout_s > 0:
            raise InputError("timeout_s", expected="above 0", found=str(self.timeout_s))


@dataclass(frozen=True, kw_only=True)
class SqlConfig(Naming):
    """The rows of one query.

    Args:
        database: Where it runs.
        query: A SELECT; `:name` stands for a parameter. With ORDER BY readings agree in order.
        parameters: Values of the query's parameters; they are bound, never pasted into it.
    """

    kind: Literal["sql"]
    database: Database
    query: str
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A measurement of an OMOP database.

    Args:
        concept: OMOP's number of what is measured.
        unit: OMOP's number of the unit; measurements in other units are not used.
    """

    concept: int
    unit: int


@dataclass(frozen=True, kw_only=True)
class OmopConfig(Naming):
    """Visits of an OMOP common data model 5.3 or 5.4 in PostgreSQL; see docs/data.md.

    Args:
        database: Where it is.
        cdm_schema: Schema of the database that holds the tables.
        visits: Concepts of the visits that become records.
        window_hours: A measurement counts if it is made within so many hours of the visit's
            beginning; the first one is used.
        measurements: From a column's name to what is measured.
        conditions: From a column's name to concepts; the flag says that one of them, or of their
            descendants, begins during the visit.
    """

    kind: Literal["omop"]
    database: Database
    cdm_schema: str = "cdm"
    visits: tuple[int, ...]
    window_hours: float = 24.0
    measurements: Mapping[str, Measured] = field(default_factory=dict)
    conditions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (self.cdm_schema, *self.measurements, *self.conditions):
            if not _NAME.fullmatch(name):
                raise InputError(f"{name!r}", expected="a name of letters, digits and _")
        twice = {*self.measurements} & {*self.conditions}
        if twice:
            raise InputError(f"{min(twice)!r} is a measurement and a condition")


@dataclass(frozen=True, kw_only=True)
class Coded:
    """An observation of a FHIR export.

    Args:
        code: Code of what is observed.
        system: The code's system.
        unit: UCUM code of the unit; observations in other units are not used.
    """

    code: str
    unit: str
    system: str = "http://loinc.org"


@dataclass(frozen=True, kw_only=True)
class FhirConfig(Naming):
    """A FHIR R4 bulk export: a folder with Patient, Observation and Condition as NDJSON.

    Args:
        path: The folder; `Patient.ndjson`, `Observation.ndjson`, `Condition.ndjson`, or several of
            each with a number or word between, such as `Observation.1.ndjson`.
        at: The day, as YYYY-MM-DD, on which ages are taken and after which nothing counts.
        observations: From a column's name to what is observed; the last value is used.
        conditions: From a column's name to codes; the flag says that the patient has one of them.
    """

    kind: Literal["fhir"]
    path: Path
    at: str
    observations: Mapping[str, Coded] = field(default_factory=dict)
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", self.at):
            raise InputError("at", expected="a day as YYYY-MM-DD")


@dataclass(frozen=True, kw_only=True)
class NpzConfig(Naming):
    """Arrays in one NumPy archive, as MedMNIST lays them out.

    `train_images`, `val_images` and `test_images` come one after the other as the array `image`
    with channels first; `..._labels` as `label`, or as `label_0`, `label_1` and so on where a
    record has several. Every other array is a column by its own name.
    """

    kind: Literal["npz"]
    path: Path


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(Naming):
    """PNG, JPEG or TIFF images, as the array `image` with channels first.

    Args:
        path: The folder.
        size: Height and width that every image is brought to.
        index: CSV file with a row for each record. Left out, every folder inside the folder is a
            class: its name is the column `label`.
        file: The index' column with an image's path inside the folder.
        colour: Three channels instead of one.
        patient: Regular expression that is searched in a file's name; its group is the column
            `patient`.
    """

    kind: Literal["images"]
    path: Path
    size: tuple[int, int]
    index: Path | None = None
    file: str = "file"
    colour: bool = False
    patient: str | None = None

    def __post_init__(self) -> None:
        _check_size(self.size)
        if self.patient is None:
            return
        try:
            groups = re.compile(self.patient).groups
        except re.error:
            groups = 0
        if groups != 1:
            raise InputError("patient", expected="a regular expression with one group")


@dataclass(frozen=True, kw_only=True)
class SeriesConfig(Naming):
    """Time series, one `.npy` file a record with axes time and channel, as the array `series`.

    Args:
        path: The folder.
        index: CSV file with a row for each record.
        file: The index' column with a series' path inside the folder.
    """

    kind: Literal["series"]
    path: Path
    index: Path
    file: str = "file"


@dataclass(frozen=True, kw_only=True)
class WfdbConfig(Naming):
    """Records of the Waveform Database, one a record, as the array `series` (time x channel).

    Args:
        path: The folder.
        index: CSV file with a row for each record.
        rate_hz: Samples a second that every channel must have; nothing is resampled.
        unit: Unit that every channel must have by its header, such as mV; one without a gain is in
            no unit.
        channels: Names of the channels to read, in this order; left out, all as they come.
        file: The index' column with a record's path inside the folder, without `.hea`.
    """

    kind: Literal["wfdb"]
    path: Path
    index: Path
    rate_hz: float
    unit: str = "mV"
    channels: tuple[str, ...] = ()
    file: str = "file"

    def __post_init__(self) -> None:
        if not 0 < self.rate_hz <= 1e6:
            raise InputError("rate_hz", expected="above 0, to 1e6", found=f"{self.rate_hz:g}")
        if len({*self.channels}) < len(self.channels):
            raise InputError("channels", expected="every channel named once")


@dataclass(frozen=True, kw_only=True)
class DicomConfig(Naming):
    """DICOM images, one file a record, or one folder of slices a record, as the array `image`.

    Args:
        path: The folder.
        index: CSV file with a row for each record.
        size: Height and width that every image is brought to.
        file: The index' column with the path of a file, or of a folder of slices.
        slices: Slices that every series is brought to; 0 where a record is one file.
        tags: From a column's name to a DICOM keyword, such as `PatientID`.
    """

    kind: Literal["dicom"]
    path: Path
    index: Path
    size: tuple[int, int]
    file: str = "file"
    slices: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_size(self.size)
        if not 0 <= self.slices <= 4096:
            raise InputError("slices", expected="0 to 4096", found=str(self.slices))


def _check_size(size: tuple[int, int]) -> None:
    if not all(1 <= side <= 16_384 for side in size):
        raise InputError("size", expected="height and width from 1 to 16384")


SourceConfig = (
    CsvConfig
    | ParquetConfig
    | SqlConfig
    | OmopConfig
    | FhirConfig
    | NpzConfig
    | ImagesConfig
    | SeriesConfig
    | WfdbConfig
    | DicomConfig
)
