from __future__ import annotations

import builtins
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from client.data.config import Database, DicomConfig
from client.data.database import SqlSource
from client.data.dicom import DicomSource
from client.data.parquet import ParquetSource
from client.data.source import read
from protocol.errors import InputError

SECRET = "Zaphod-4711"  # noqa: S105 - nobody's


def written(folder: Path, **columns: Any) -> ParquetSource:
    pl.DataFrame(columns).write_parquet(folder / "a.parquet")
    return ParquetSource(folder / "a.parquet")


def test_every_type_arrives_as_a_table_holds_it(tmp_path: Path) -> None:
    source = written(
        tmp_path,
        text=["a", None],
        whole=[2**60 + 1, None],
        sure=[2**60 + 1, 7],
        real=[1.5, None],
        failed=[1.5, float("nan")],
        flag=[True, None],
        day=[date(2025, 3, 1), None],
        exact=[Decimal("1.25"), None],
        nothing=[None, None],
    )
    table = read(source, source.columns())
    assert table["text"] == ["a", None]
    assert table["whole"] == [2**60 + 1, None]
    assert np.asarray(table["sure"]).tolist() == [2**60 + 1, 7]
    assert np.isnan(np.asarray(table["real"])).tolist() == [False, True]
    # NaN is no gap, so it does not become the array's mark for one.
    assert isinstance(table["failed"], list)
    assert table["flag"] == [True, None]
    assert table["day"] == ["2025-03-01", None]
    assert table["exact"] == [1.25, None]
    assert table["nothing"] == [None, None]


@pytest.mark.parametrize(
    "dtype", [pl.List(pl.Int16), pl.Array(pl.Float32, 2)], ids=["list", "array"]
)
def test_lists_of_numbers_are_arrays_with_nan_for_gaps(tmp_path: Path, dtype: Any) -> None:
    source = written(tmp_path, wave=pl.Series([[1, 2], None, [3, None]], dtype=dtype))
    wave = np.asarray(read(source, ["wave"])["wave"])
    assert wave.shape == (3, 2)
    assert np.nan_to_num(wave, nan=-1).tolist() == [[1, 2], [-1, -1], [3, -1]]


def test_images_keep_their_axes(tmp_path: Path) -> None:
    image_NHW = np.arange(12.0).reshape(2, 2, 3)
    source = written(tmp_path, image=pl.Series(image_NHW))
    assert np.array_equal(np.asarray(read(source, ["image"])["image"]), image_NHW)


@pytest.mark.parametrize("wave", [[[1.0], [1.0, 2.0]], [[SECRET], ["b"]]])
def test_lists_that_are_no_arrays(tmp_path: Path, wave: Any) -> None:
    with pytest.raises(InputError, match="differ in length or are no numbers") as caught:
        read(written(tmp_path, wave=wave), ["wave"])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda path: path.write_bytes(SECRET.encode()), "no readable Parquet"),
        (lambda path: path.unlink(), "cannot be read|no readable Parquet"),
        (lambda path: (path.unlink(), path.mkdir()), "no file in this folder"),
    ],
)
def test_what_is_no_parquet_is_told_by_its_file(
    tmp_path: Path, prepare: Callable[[Path], object], told: str
) -> None:
    source = written(tmp_path, a=[1])
    prepare(source.path)
    for ask in (source.columns, lambda: list(source.batches(["a"]))):
        with pytest.raises(InputError, match=rf"a\.parquet: ({told})") as caught:
            ask()
        assert SECRET not in str(caught.value)


def test_parts_have_the_same_columns(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1], "b": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"b": ["x"]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match="files with the same columns and types"):
        list(ParquetSource(tmp_path).batches(["a"]))


@pytest.mark.parametrize(
    ("package", "extra", "ask"),
    [
        ("polars", "parquet", lambda folder: ParquetSource(folder / "a.parquet").columns()),
        (
            "psycopg",
            "sql",
            lambda folder: SqlSource(
                Database(url="postgresql://db/ward"), folder, "SELECT 1", {}
            ).columns(),
        ),
        (
            "pydicom",
            "dicom",
            lambda folder: list(
                DicomSource(
                    folder,
                    DicomConfig(kind="dicom", path=Path(), index=Path("i.csv"), size=(1, 1)),
                ).batches(["image"])
            ),
        ),
    ],
)
def test_a_missing_extra_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    extra: str,
    ask: Callable[[Path], object],
) -> None:
    whole = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=package)
        return whole(name, *rest, **more)

    (tmp_path / "i.csv").write_text("file\na.dcm\n")
    monkeypatch.setattr(builtins, "__import__", without)
    told = rf"expected the package '{package}'; .*fedward\[{extra}\]"
    with pytest.raises(InputError, match=told):
        ask(tmp_path)
