"""Whether a DICOM image may hold an identifier in its pixels, and which of its tags are dropped.

What can be told from a header is told: this finds images that say what they are, and cannot see a
name that somebody drew into a picture without saying so. See docs/data.md.

Source: NEMA, DICOM PS3.15 Table E.1-1 (Basic Application Level Confidentiality Profile), PS3.3
C.7.6.1 (General Image) and C.8.6.1 (SC Equipment).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104"
# Their pixels are screens with the patient's name on them, unless they say that nothing is.
SCREENS = frozenset({"US", "IVUS", "ES", "XC", "GM", "SM", "OT"})
# What the basic profile removes or replaces and hospitals fill in most often; names of people,
# private tags and whole overlays come on top.
IDENTIFYING = frozenset({
    "AccessionNumber", "AcquisitionDate", "AcquisitionDateTime", "AcquisitionTime",
    "AdmissionID", "AdmittingDate", "ContentDate", "ContentTime", "DeviceSerialNumber",
    "FrameOfReferenceUID", "InstanceCreationDate", "InstanceCreationTime", "InstitutionAddress",
    "InstitutionName", "InstitutionalDepartmentName", "IssuerOfPatientID", "MedicalRecordLocator",
    "OtherPatientIDs", "OtherPatientIDsSequence", "PatientAddress", "PatientAge",
    "PatientBirthDate", "PatientBirthTime", "PatientComments", "PatientID",
    "PatientMotherBirthName", "PatientSize", "PatientTelephoneNumbers", "PatientWeight",
    "RequestAttributesSequence", "SOPInstanceUID", "SeriesDate", "SeriesDescription",
    "SeriesInstanceUID", "SeriesTime", "StationName", "StudyDate", "StudyDescription", "StudyID",
    "StudyInstanceUID", "StudyTime", "AdditionalPatientHistory", "ImageComments",
    "RequestedProcedureDescription", "ProtocolName",
})  # fmt: skip


def objections(header: Dataset) -> tuple[str, ...]:
    """Why an image's pixels may identify a patient, in words without a value; none if nothing says.

    Args:
        header: The image's tags.
    """
    return tuple(_objections(header))


def _objections(header: Dataset) -> Iterator[str]:
    burned = _text(header, "BurnedInAnnotation")
    sop_class = _text(header, "SOPClassUID")
    if burned == "YES":
        yield "BurnedInAnnotation is YES"
    if _text(header, "RecognizableVisualFeatures") == "YES":
        yield "RecognizableVisualFeatures is YES"
    if sop_class.startswith(SECONDARY_CAPTURE) or _text(header, "ConversionType"):
        yield "a secondary capture"
    if sop_class.startswith(ENCAPSULATED):
        yield "an encapsulated document"
    if {"SCREEN SAVE", "SCREENSHOT"} & {
        str(kind).upper() for kind in header.get("ImageType") or ()
    }:
        yield "a screen shot"
    if _text(header, "Modality") in SCREENS and burned != "NO":
        yield "a modality whose images show names, and no BurnedInAnnotation that says NO"
    if any(0x6000 <= element.tag.group <= 0x60FF for element in header):
        yield "an overlay"


def dropped(header: Dataset) -> tuple[str, ...]:
    """Keywords of the identifying tags that an image has and that no record keeps, sorted.

    Private tags are told as `private tags`, since nothing says what they hold.
    """
    names = {
        element.keyword
        for element in header
        if element.keyword in IDENTIFYING or element.VR == "PN"
    }
    if any(element.tag.is_private for element in header):
        names.add("private tags")
    return tuple(sorted(names))


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip().upper()
