import pytest
from pydicom.dataset import Dataset

from dicom_node import matching
from dicom_node.matching import matches, matches_value

SUPPORTED = (
    "PatientName", "PatientID", "StudyDate", "StudyTime", "StudyInstanceUID", "ModalitiesInStudy",
    "StudyDescription", "SeriesNumber", "RequestAttributesSequence", "AcquisitionDateTime",
)  # fmt: skip


def dataset(**values):
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    ("vr", "wanted", "found", "is_match"),
    [
        # single value (C.2.2.2.1)
        ("LO", "Chest", "Chest", True),
        ("LO", "chest", "Chest", False),
        ("UI", "1.2.3", "1.2.3", True),
        ("UI", "1.2.*", "1.2.3", False),
        ("IS", "07", "7", True),
        ("IS", "7", "8", False),
        # wild card (C.2.2.2.4)
        ("LO", "Ch*", "Chest", True),
        ("LO", "*est", "Chest", True),
        ("LO", "C?est", "Chest", True),
        ("LO", "C?st", "Chest", False),
        ("LO", "*h*s*", "Chest", True),
        ("LO", "*s*h*", "Chest", False),
        ("LO", "a*a", "a", False),
        ("LO", "[C]*", "Chest", False),
        ("CS", "D?", "DX", True),
        # names
        ("PN", "smith^john", "SMITH^John", True),
        ("PN", "Smith*", "Smith^John", True),
        ("PN", "Smith", "Smith^John", False),
        ("PN", "Smith^John", "Smith^John^^^", True),
        ("PN", "Yamada*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("PN", "山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("PN", "=山田^太郎", "Yamada^Tarou=山田^太郎", True),
        ("PN", "Suzuki=山田*", "Yamada^Tarou=山田^太郎", False),
        # ranges (C.2.2.2.5)
        ("DA", "20260101", "20260101", True),
        ("DA", "20260101", "2026.01.01", True),
        ("DA", "20260101-20260131", "20260115", True),
        ("DA", "20260101-20260131", "20260131", True),
        ("DA", "20260101-20260131", "20260201", False),
        ("DA", "-20260131", "20250101", True),
        ("DA", "20260101-", "20251231", False),
        ("TM", "10-12", "125959.99", True),
        ("TM", "10-12", "130000", False),
        ("TM", "101500", "101500", True),
        ("TM", "1015", "101559", True),
        ("TM", "10:15:00-10:16:00", "101530", True),
        ("DT", "20260101-20260102", "20260101120000", True),
        ("DT", "20260101120000-0500", "20260101120000-0500", True),
    ],
)
def test_a_value_is_matched_by_the_rules_of_its_vr(vr, wanted, found, is_match):
    assert matches_value(vr, wanted, found) is is_match


@pytest.mark.parametrize(
    ("entity", "key", "is_match"),
    [
        ({"PatientID": "P1"}, {"PatientID": ""}, True),
        ({}, {"PatientID": ""}, True),
        ({}, {"PatientID": "*"}, True),
        ({}, {"PatientID": "P1"}, False),
        ({"PatientID": "P1 "}, {"PatientID": "P1"}, True),
        # list of UIDs (C.2.2.2.2)
        ({"StudyInstanceUID": "1.2"}, {"StudyInstanceUID": ["1.1", "1.2"]}, True),
        ({"StudyInstanceUID": "1.3"}, {"StudyInstanceUID": ["1.1", "1.2"]}, False),
        # any of several values
        ({"ModalitiesInStudy": ["CR", "SR"]}, {"ModalitiesInStudy": "SR"}, True),
        ({"ModalitiesInStudy": ["CR", "SR"]}, {"ModalitiesInStudy": "KO"}, False),
        ({"SeriesNumber": 900}, {"SeriesNumber": "900"}, True),
        # what is not supported is ignored, and what controls the query is no key
        ({}, {"PatientComments": "x"}, True),
        ({}, {"QueryRetrieveLevel": "STUDY"}, True),
        # all keys at once
        ({"PatientID": "P1", "StudyDate": "20260101"},
         {"PatientID": "P1", "StudyDate": "20250101"}, False),
    ],
)  # fmt: skip
def test_an_entity_matches_all_keys_or_does_not(entity, key, is_match):
    assert matches(dataset(**entity), dataset(**key), SUPPORTED) is is_match


def test_a_sequence_matches_by_any_of_its_items():
    items = [dataset(ScheduledProcedureStepID=uid) for uid in ("S1", "S2")]
    entity = dataset(RequestAttributesSequence=items)
    for wanted, is_match in (("S2", True), ("S3", False), ("", True)):
        key = dataset(RequestAttributesSequence=[dataset(ScheduledProcedureStepID=wanted)])
        assert matches(entity, key, SUPPORTED) is is_match
    assert matches(dataset(), dataset(RequestAttributesSequence=[]), SUPPORTED)


def test_a_hostile_wild_card_takes_no_time():
    assert not matches_value("LO", "*a" * 32 + "b", "a" * 10000)
    assert not matches_value("LO", "*" * 64 + "b", "a" * 10000)


def test_a_long_wild_card_matches_and_is_not_kept():
    before = matching._pattern.cache_info()
    for found, is_match in (("x" * 300, True), ("y" * 300, False), ("x" * 298, False)):
        assert matches_value("LT", "*" + "x" * 298 + "?*", found) is is_match
    assert matching._pattern.cache_info() == before


def test_no_pattern_is_made_of_what_cannot_match():
    before = matching._pattern.cache_info()
    for wanted in ("Chest", "*longer than it", "??????"):
        assert not matches_value("LO", wanted, "Thorax"[:5])
    assert matching._pattern.cache_info() == before
