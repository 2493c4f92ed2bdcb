"""Archives, images and series; what they have in common stands in tests/contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.data.arrays import BATCH_CELLS, IndexedSource, NpzSource, load_image, load_series
from client.data.config import DicomConfig, ImagesConfig, NpzConfig, SeriesConfig
from client.data.opening import open_source
from client.data.source import read
from client.data.tabular import CsvSource
from protocol.errors import InputError


class TestArchives:
    def test_medmnists_parts_come_together_with_channels_first(self, tmp_path: Path) -> None:
        image_NHWC = np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3)
        np.savez(
            tmp_path / "a.npz",
            train_images=image_NHWC[:3],
            test_images=image_NHWC[3:],
            train_labels=np.array([[1], [0], [2]]),
            test_labels=np.array([[0], [1]]),
        )
        source = open_source(NpzConfig(kind="npz", path=Path("a.npz")), tmp_path)
        assert source.columns() == ("image", "label")
        table = read(source, ["image", "label"])
        assert np.array_equal(np.asarray(table["image"]), image_NHWC.transpose(0, 3, 1, 2))
        assert np.asarray(table["label"]).tolist() == [1, 0, 2, 0, 1]

    def test_several_labels_are_columns_of_their_own(self, tmp_path: Path) -> None:
        np.savez(
            tmp_path / "a.npz",
            train_images=np.zeros((2, 3, 3)),
            test_images=np.zeros((1, 3, 3)),
            train_labels=np.array([[1, 0], [0, 0]]),
            test_labels=np.array([[0, 1]]),
        )
        source = NpzSource(tmp_path / "a.npz")
        assert source.columns() == ("image", "label_0", "label_1")
        table = read(source, ["label_1", "label_0"])
        assert np.asarray(table["label_0"]).tolist() == [1, 0, 0]
        assert np.asarray(table["label_1"]).tolist() == [0, 0, 1]

    def test_other_arrays_are_columns_by_their_own_names(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", patient=np.array(["a", "b"]), wave=np.ones((2, 4)))
        table = read(NpzSource(tmp_path / "a.npz"), ["patient", "wave"])
        assert table["patient"] == ["a", "b"]
        assert np.asarray(table["wave"]).shape == (2, 4)

    @pytest.mark.parametrize(
        ("arrays", "told"),
        [
            ({"a": np.ones(2), "b": np.ones(3)}, "differ in length"),
            ({"train_images": np.ones((1, 2, 2)), "val_images": np.ones((1, 3, 3))}, "in shape"),
            ({"a": np.array(1.0)}, "in shape"),
        ],
    )
    def test_arrays_that_do_not_belong_together(
        self, tmp_path: Path, arrays: dict[str, Any], told: str
    ) -> None:
        np.savez(tmp_path / "a.npz", **arrays)
        source = NpzSource(tmp_path / "a.npz")
        with pytest.raises(InputError, match=told):
            read(source, source.columns())

    def test_no_object_is_ever_unpacked(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
        (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 and no more")
        for name in ("a.npy", "b.npz"):
            with pytest.raises(InputError, match="no readable NumPy archive"):
                NpzSource(tmp_path / name).columns()

    def test_batches_of_large_arrays_are_short(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", image=np.zeros((5, 2048, 2048), dtype=np.uint8))
        batches = NpzSource(tmp_path / "a.npz").batches(["image"])
        sizes = [np.asarray(batch["image"]).size for batch in batches]
        assert max(sizes) <= BATCH_CELLS
        assert len(sizes) == 3


class TestImages:
    @pytest.mark.parametrize(
        ("mode", "colour", "shape"), [("L", False, (1, 4, 6)), ("RGBA", True, (3, 4, 6))]
    )
    def test_are_brought_to_one_size_and_number_of_channels(
        self, tmp_path: Path, mode: str, colour: bool, shape: tuple[int, ...]
    ) -> None:
        Image.new(mode, (12, 8), color=(7,) * len(mode) if mode != "L" else 7).save(
            tmp_path / "a.png"
        )
        array = load_image(tmp_path / "a.png", (4, 6), colour=colour)
        assert array.shape == shape
        assert set(array.ravel().tolist()) == {7}

    def test_sixteen_bits_are_kept(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((2, 2), 40_000, dtype=np.uint16)).save(tmp_path / "a.tiff")
        assert load_image(tmp_path / "a.tiff", (2, 2), colour=False).max() == 40_000

    def test_what_is_no_image_is_told_by_its_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"Zaphod-4711")
        with pytest.raises(InputError, match=r"a\.png: no readable image") as caught:
            load_image(tmp_path / "a.png", (2, 2), colour=False)
        assert "Zaphod" not in str(caught.value)

    def test_an_index_brings_labels(self, tmp_path: Path) -> None:
        Image.new("L", (2, 2)).save(tmp_path / "one.png")
        (tmp_path / "index.csv").write_text("file,ill\none.png,yes\none.png,no\n")
        config = ImagesConfig(
            kind="images", path=Path(), size=(2, 2), index=Path("index.csv"), units={}
        )
        table = read(open_source(config, tmp_path), ["image", "ill"])
        assert np.asarray(table["image"]).shape == (2, 1, 2, 2)
        assert table["ill"] == ["yes", "no"]

    @pytest.mark.parametrize("pattern", ["(", "P[0-9]+", "(a)(b)"])
    def test_a_pattern_has_one_group(self, pattern: str) -> None:
        with pytest.raises(InputError, match="a regular expression with one group"):
            ImagesConfig(kind="images", path=Path(), size=(2, 2), patient=pattern)

    def test_a_file_without_the_pattern_has_no_patient(self, tmp_path: Path) -> None:
        (tmp_path / "ill").mkdir()
        Image.new("L", (2, 2)).save(tmp_path / "ill" / "scan.png")
        config = ImagesConfig(kind="images", path=Path(), size=(2, 2), patient="(P[0-9]+)")
        assert read(open_source(config, tmp_path), ["patient"]) == {"patient": [None]}


class TestSeries:
    def index(self, folder: Path, files: list[str]) -> IndexedSource:
        (folder / "index.csv").write_text("file\n" + "\n".join(files) + "\n")
        inner = folder / "inside"
        inner.mkdir(exist_ok=True)
        return IndexedSource(inner, CsvSource(folder / "index.csv"), "file", "series", load_series)

    def test_shorter_ones_end_in_nothing(self, tmp_path: Path) -> None:
        source = self.index(tmp_path, ["a.npy", "b.npy"])
        np.save(tmp_path / "inside" / "a.npy", np.ones((3, 2)))
        np.save(tmp_path / "inside" / "b.npy", np.ones((1, 2)))
        series_NTC = np.asarray(read(source, ["series"])["series"])
        assert series_NTC.shape == (2, 3, 2)
        assert np.isnan(series_NTC[1, 1:]).all()
        assert np.isnan(series_NTC).sum() == 4

    def test_one_channel_needs_no_axis(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.arange(4, dtype=np.int16))
        assert load_series(tmp_path / "a.npy").shape == (4, 1)

    def test_channels_are_alike(self, tmp_path: Path) -> None:
        source = self.index(tmp_path, ["a.npy", "b.npy"])
        np.save(tmp_path / "inside" / "a.npy", np.ones((3, 2)))
        np.save(tmp_path / "inside" / "b.npy", np.ones((3, 1)))
        with pytest.raises(InputError, match="differ in more than their length"):
            read(source, ["series"])

    @pytest.mark.parametrize("name", ["../secret.npy", "/etc/passwd", '""'])
    def test_no_file_outside_the_folder_is_read(self, tmp_path: Path, name: str) -> None:
        np.save(tmp_path / "secret.npy", np.ones((1, 1)))
        source = self.index(tmp_path, [name])
        with pytest.raises(InputError, match=r"not inside the folder|no readable series"):
            read(source, ["series"])

    @pytest.mark.parametrize(
        "array", [np.ones((2, 2, 2)), np.array(["a"]), np.array([None], dtype=object)]
    )
    def test_what_is_no_series(self, tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(InputError, match="no readable series"):
            load_series(tmp_path / "a.npy")

    @pytest.mark.parametrize("header", ["Zaphod,ecg", "file,series"])
    def test_an_index_has_a_column_of_files_and_none_called_like_the_array(
        self, tmp_path: Path, header: str
    ) -> None:
        (tmp_path / "index.csv").write_text(header + "\n")
        config = SeriesConfig(kind="series", path=Path(), index=Path("index.csv"))
        with pytest.raises(InputError, match="index; expected a column 'file'") as caught:
            open_source(config, tmp_path).columns()
        assert "Zaphod" not in str(caught.value)


@pytest.mark.parametrize("size", [(0, 5), (5, 20_000)])
def test_sizes_are_within_reason(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="height and width"):
        ImagesConfig(kind="images", path=Path(), size=size)
    with pytest.raises(InputError, match="height and width"):
        DicomConfig(kind="dicom", path=Path(), index=Path("i"), size=size)
