from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from client.data.config import DicomConfig
from client.data.deidentify import dropped, objections
from client.data.dicom import DicomSource
from client.data.source import read
from protocol.errors import InputError
from tests.dicom import image, save

SECRET = "Zaphod^Beeblebrox"  # noqa: S105 - nobody's


def source(folder: Path, *images: Dataset, **changes: Any) -> DicomSource:
    (folder / "ct").mkdir()
    for place, made in enumerate(images):
        save(made, folder / "ct" / f"{place}.dcm")
    files = "".join(f"{place}.dcm\n" for place in range(len(images)))
    (folder / "index.csv").write_text("file\n" + files)
    written: dict[str, Any] = {"size": (2, 2), **changes}
    config = DicomConfig(kind="dicom", path=Path("ct"), index=Path("index.csv"), **written)
    return DicomSource(folder, config)


def plain(**tags: Any) -> Dataset:
    return image(np.array([[0, 100], [200, 300]]), **tags)


def test_pixels_are_rescaled_to_the_modalitys_unit(tmp_path: Path) -> None:
    made = source(tmp_path, plain(RescaleSlope=2, RescaleIntercept=-1024))
    array_N = np.asarray(read(made, ["image"])["image"])
    assert array_N.tolist() == [[[[-1024.0, -824.0], [-624.0, -424.0]]]]


def test_images_are_brought_to_one_size_with_their_corners_in_place(tmp_path: Path) -> None:
    made = source(tmp_path, plain(), image(np.arange(12).reshape(3, 4)), size=(3, 3))
    array_N = np.asarray(read(made, ["image"])["image"])
    assert array_N.shape == (2, 1, 3, 3)
    assert array_N[0, 0].tolist() == [[0, 50, 100], [100, 150, 200], [200, 250, 300]]
    assert array_N[1, 0, ::2, ::2].tolist() == [[0, 3], [8, 11]]


@pytest.mark.parametrize("told", ["position", "number"])
def test_slices_are_ordered_along_their_axis(tmp_path: Path, told: str) -> None:
    (tmp_path / "ct" / "series").mkdir(parents=True)
    for name, height in (("a", 2), ("b", 0), ("c", 1)):
        tags: dict[str, Any] = (
            {"InstanceNumber": height}
            if told == "number"
            else {
                "InstanceNumber": 9 - height,
                "ImagePositionPatient": [0, 0, height],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            }
        )
        save(image(np.full((2, 2), height), **tags), tmp_path / "ct" / "series" / name)
    (tmp_path / "index.csv").write_text("file\nseries\n")
    config = DicomConfig(
        kind="dicom", path=Path("ct"), index=Path("index.csv"), size=(2, 2), slices=3
    )
    volume = np.asarray(read(DicomSource(tmp_path, config), ["image"])["image"])
    assert volume.shape == (1, 3, 2, 2)
    assert volume[0, :, 0, 0].tolist() == [0, 1, 2]


def test_only_named_tags_become_columns(tmp_path: Path) -> None:
    tags = {"patient": "PatientID", "age": "PatientAge", "sex": "PatientSex", "kvp": "KVP"}
    made = source(
        tmp_path,
        plain(PatientID="7", PatientAge="064Y", PatientSex="F", KVP=120, PatientName=SECRET),
        plain(PatientID="8", PatientAge="006M"),
        tags=tags,
    )
    assert made.columns() == ("file", "image", "patient", "age", "sex", "kvp")
    assert read(made, ["patient", "age", "sex", "kvp"]) == {
        "patient": ["7", "8"],
        "age": [64.0, 0.5],
        "sex": ["F", None],
        "kvp": [120.0, None],
    }
    assert made.identifying() == ("PatientName", "SOPInstanceUID")


BURNT: dict[str, dict[str, Any]] = {
    "BurnedInAnnotation is YES": {"BurnedInAnnotation": "YES"},
    "RecognizableVisualFeatures is YES": {"RecognizableVisualFeatures": "YES"},
    "a secondary capture": {"SOPClassUID": SecondaryCaptureImageStorage},
    "a secondary capture ": {"ConversionType": "WSD"},
    "an encapsulated document": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"},
    "a screen shot": {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
    "a modality whose images show names": {"Modality": "US"},
    "an overlay": {"OverlayData_": b"\0"},
}


@pytest.mark.parametrize(("told", "tags"), BURNT.items(), ids=BURNT)
def test_pixels_that_may_show_who_it_is_are_refused(
    tmp_path: Path, told: str, tags: dict[str, Any]
) -> None:
    tags = dict(tags)
    overlay = tags.pop("OverlayData_", None)
    made = plain(PatientName=SECRET, **tags)
    if overlay:
        made.add_new(0x60003000, "OW", b"\0\0")
    found = source(tmp_path, plain(), made)
    for ask in (lambda: read(found, ["image"]), found.identifying):
        with pytest.raises(InputError, match=f"may show who it is of.*{told.strip()}") as caught:
            ask()
        assert "1.dcm" in str(caught.value)
        assert SECRET not in str(caught.value)


def test_what_says_that_nothing_is_burnt_in_is_taken() -> None:
    assert objections(plain(Modality="US", BurnedInAnnotation="NO")) == ()
    assert objections(plain(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])) == ()


def test_identifying_tags_are_listed_by_name_and_never_by_value() -> None:
    made = plain(PatientName=SECRET, PatientBirthDate="19600101", OperatorsName=SECRET)
    made.add_new(0x00091001, "LO", SECRET)
    found = dropped(made)
    assert found == (
        "OperatorsName", "PatientBirthDate", "PatientName", "SOPInstanceUID", "private tags",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda path: path.write_bytes(b"Zaphod"), "no readable DICOM"),
        (lambda path: path.unlink(), "no readable DICOM"),
        (lambda path: (path.unlink(), path.mkdir()), "an empty folder"),
    ],
)
def test_what_is_no_dicom_is_told_by_its_file(tmp_path: Path, prepare: Any, told: str) -> None:
    made = source(tmp_path, plain())
    prepare(tmp_path / "ct" / "0.dcm")
    with pytest.raises(InputError, match=rf"0\.dcm: {told}"):
        read(made, ["image"])


def test_pixels_that_cannot_be_decoded(tmp_path: Path) -> None:
    broken = plain()
    broken.Rows = 5000
    with pytest.raises(InputError, match="pixels cannot be decoded"):
        read(source(tmp_path, broken), ["image"])


def test_colours_become_grey_and_several_slices_need_a_number(tmp_path: Path) -> None:
    frames = plain(NumberOfFrames=2)
    frames.PixelData = frames.PixelData * 2
    with pytest.raises(InputError, match="several slices; say how many"):
        read(source(tmp_path, frames), ["image"])


def test_a_tag_is_no_column_of_the_index(tmp_path: Path) -> None:
    made = source(tmp_path, plain(), tags={"file": "PatientID"})
    with pytest.raises(InputError, match=r"tags\.file: the index has a column"):
        made.columns()


def test_the_number_of_slices_is_within_reason() -> None:
    with pytest.raises(InputError, match="slices; expected 0 to 4096"):
        DicomConfig(kind="dicom", path=Path(), index=Path("i"), size=(2, 2), slices=-1)
