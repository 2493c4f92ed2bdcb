"""Small DICOM images of nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def image(pixel_HW: np.ndarray[Any, Any], **tags: Any) -> Dataset:
    """A CT slice with the given pixels (16 bits, signed) and tags."""
    made = Dataset()
    made.SOPClassUID = CTImageStorage
    made.SOPInstanceUID = generate_uid(entropy_srcs=[str(tags), str(pixel_HW.tolist())])
    made.Modality = "CT"
    made.Rows, made.Columns = pixel_HW.shape
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.SamplesPerPixel, made.PixelRepresentation = 15, 1, 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelData = pixel_HW.astype("<i2").tobytes()
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def save(made: Dataset, path: Path) -> None:
    """Write it as a file of its own."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.save_as(path, enforce_file_format=True)
