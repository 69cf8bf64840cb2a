"""Whatever a source's header holds, what we make of it can be sent, read and validated."""

import shutil
from functools import cache, partial
from io import BytesIO
from itertools import cycle
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import ComputedRadiographyImageStorage

from dicom_node.capture import build_capture
from dicom_node.contexts import REPORT_SOP_CLASSES, STORAGE_SOP_CLASSES
from dicom_node.fallback import as_sop_class
from dicom_node.findings import InstanceFinding
from dicom_node.identity import add_identity, value_of
from dicom_node.key_object import build_key_object
from dicom_node.modules import IDENTIFYING, TYPE_2, TYPE_3
from dicom_node.validity import CHARACTER_VRS
from tests.datasets import dx_image, image, part10, pydicom_data, read, with_element
from tests.templates import template_errors
from tests.unit.dicom_node.test_report import DEVICE, WHEN, report
from tests.validation import dsrdump_errors, entity_errors, errors_of_all, relationship_errors

# Outside of pytest the product keeps pydicom's warnings quiet itself.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
PICTURE = np.zeros((2, 2, 3), np.uint8)
# What a validator finds wrong in them is the source's: they are kept as they are.
KEPT = [
    *IDENTIFYING,
    "(0x0010,0x0010)",
    "(0x0010,0x0020)",
    "(0x0010,0x0021)",
    "(0x0008,0x0050)",
    "UID",  # the source's own, of which some have no registered root
    "Dicom dataset contains invalid data values",  # of which another line tells
]


def capture_of(source):
    return read(
        build_capture(
            source,
            PICTURE,
            DEVICE,
            sop_instance_uid="2.25.3",
            series_instance_uid="2.25.4",
            instance_number=1,
            content_datetime=WHEN,
        )
    )


def key_object_of(source):
    return read(
        build_key_object(
            [source],
            [value_of(source, "SOPInstanceUID")],
            DEVICE,
            sop_instance_uid="2.25.5",
            series_instance_uid="2.25.6",
            instance_number=1,
            content_datetime=WHEN,
        )
    )


def report_of(source, assessed=True):
    uid = value_of(source, "SOPInstanceUID")
    finding = (
        InstanceFinding(uid, True, None, "PRESENT", 0.9, 0.7, 0.3, ("AGE_UNKNOWN",))
        if assessed
        else InstanceFinding(uid, False, "NOT_CHEST")
    )
    return report([source], [finding])


def fallback_of(source):
    data = as_sop_class(part10(report_of(source)), REPORT_SOP_CLASSES[-1])
    return dcmread(BytesIO(data))


# What is made, and of each how many-th real source, as building takes time.
MADE = {
    "a report": (report_of, 1),
    "a report without answer": (partial(report_of, assessed=False), 3),
    "a fallback": (fallback_of, 3),
    "a capture": (capture_of, 1),
    "a key object": (key_object_of, 2),
}


def inherited(error):
    return any(words in error for words in KEPT)


def check(made, sources):
    """Hold what was made, one for each of `sources` (by name), against validators and source."""
    written = {name: part10(ds) for name, ds in made.items()}  # before anything is looked at
    distinct = {data: name for name, data in written.items()}
    errors = errors_of_all(made[name] for name in distinct.values())
    wrong = {
        name: [error for error in found if not inherited(error)]
        for name, found in zip(distinct.values(), errors, strict=True)
    }
    for data, name in distinct.items():
        ds = dcmread(BytesIO(data))
        if "ContentSequence" in ds:
            wrong[name] += [*relationship_errors(ds), *template_errors(ds)]
        assert part10(ds) == data
        assert not [elem for elem in ds.iterall() if elem.tag.is_private]
    for name, data in written.items():
        wrong[name] = [*wrong.get(name, []), *differences(dcmread(BytesIO(data)), sources[name])]
    assert {name: found for name, found in wrong.items() if found} == {}


def differences(ds, source):
    """The attributes that say something else than in the source, or that identify and are lost."""
    different = []
    for keyword in ("StudyInstanceUID", *TYPE_2, *TYPE_3):
        elem = source.get_item(keyword) if keyword in source else None
        if elem is None or not {dictionary_VR(keyword), elem.VR or "UN"} <= {*CHARACTER_VRS, "UN"}:
            continue
        told, was = raw(ds, keyword), raw(source, keyword)
        if told != was and (told or keyword in IDENTIFYING):
            different.append(keyword)
    return different


def raw(ds, keyword):
    """An element's bytes, without padding."""
    elem = ds.get_item(keyword) if keyword in ds else None
    return b"" if elem is None or not elem.is_raw else (elem.value or b"").strip(b" \0")


# --- real sources ------------------------------------------------------------------------------


@cache
def real_sources():
    """The headers of all instances at hand, one for each patient and study.

    As if each came as an image of a SOP class that is taken; others are refused before.
    """
    sources = {}
    for folder in (pydicom_data(), Path(pydicom.__file__).parent / "data"):
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            try:
                ds = dcmread(path, stop_before_pixels=True)
            except Exception:
                continue  # no instance
            if all(value_of(ds, keyword) for keyword in UIDS):
                if value_of(ds, "SOPClassUID") not in STORAGE_SOP_CLASSES:
                    ds.SOPClassUID = ComputedRadiographyImageStorage
                copied = Dataset()
                add_identity(copied, ds)
                sources.setdefault(str(copied), (path.name, ds))
    return dict(sources.values())


def test_there_are_real_sources():
    assert len(real_sources()) > 50


@pytest.mark.parametrize("kind", MADE)
def test_of_every_real_source_something_valid_is_made(kind):
    make, step = MADE[kind]
    sources = dict(list(real_sources().items())[::step])
    check({name: make(ds) for name, ds in sources.items()}, sources)


def test_what_is_made_is_of_the_same_patient_and_study_as_its_source():
    for source in list(real_sources().values())[::3]:
        made = [source, report_of(source), capture_of(source), key_object_of(source)]
        errors = entity_errors(made)
        # What the source refers to need not be there.
        assert [error for error in errors if "that was referenced" not in error] == []


@pytest.mark.skipif(not shutil.which("dsrdump"), reason="DCMTK is not installed")
@pytest.mark.parametrize("make", [report_of, fallback_of, key_object_of])
def test_dcmtk_reads_what_is_made_of_real_sources(make):
    # A name that is longer than it may be is the source's own.
    found = {name: dsrdump_errors(make(ds)) for name, ds in list(real_sources().items())[::9]}
    errors = [line for lines in found.values() for line in lines if not line.startswith("W: ")]
    assert errors == []


# --- one attribute at a time -------------------------------------------------------------------

TEXTS = [
    None,
    b"",
    b"X" * 17,
    b"X" * 65,
    b"X" * 10241,
    b"two\\values",
    b"\\",
    b"two\nlines",
    b"nul\0inside",
    b"nul\0\0 ",
    b" blanks ",
    b"J\xe9r\xf4me",
    b"\x1b$B;3ED\x1b(B",
    b"a^b^c^d^e^f=g=h=i",
    b"20261332",
    b"12",
]
OTHER_VRS = [
    ("SQ", b"\xfe\xff\0\xe0\0\0\0\0"),
    ("SQ", b"\xfe\xff\0\xe0\x10\0\0\0\x08\0\x70\0LO\x08\0ABCDEFGH"),
    ("US", b"\x01\0"),
    ("UN", b"text"),
    ("UT", b"two\nlines!"),
]
SEEN = (
    "Manufacturer",
    "StationName",
    "SeriesNumber",
    "InstanceNumber",
    "Rows",
    "PatientOrientation",
    "LossyImageCompression",
    "LossyImageCompressionMethod",
    "RequestAttributesSequence",
)
CHARACTER_SETS = [
    b"ISO_IR 6", b"ISO_IR 13", b"ISO_IR 192\\ISO_IR 100", b"\\ISO 2022 IR 58", b"ISO 2022 IR 87",
    b"GB18030", b"GBK", b"UTF8", b"ISO-8859-1", b"iso_ir 100", b"\\\\", b"ISO_IR 100\0\0", b"XXX",
]  # fmt: skip


def mutations(step=1):
    """Sources with one attribute changed each, by what was changed."""
    known = (*TYPE_2, *TYPE_3, *SEEN)
    changes = [
        (keyword, dictionary_VR(keyword), value)
        for keyword in known
        for value in TEXTS
        if value is None or dictionary_VR(keyword) != "SQ"
    ]
    changes += [(keyword, *other) for keyword in known for other in OTHER_VRS]
    changes += [("SpecificCharacterSet", "CS", value) for value in CHARACTER_SETS]
    return {
        f"{keyword} {vr} {value!r:.30}": with_element(maker(), keyword, vr, value)
        for maker, (keyword, vr, value) in zip(
            cycle((image, dx_image)), changes[::step], strict=False
        )
    }


def test_of_mutated_sources_valid_captures_are_made():
    sources = mutations(step=3)
    check({name: capture_of(ds) for name, ds in sources.items()}, sources)


@pytest.mark.parametrize("make", [report_of, key_object_of])
def test_of_mutated_sources_valid_documents_are_made(make):
    sources = mutations(step=61)
    check({name: make(ds) for name, ds in sources.items()}, sources)
