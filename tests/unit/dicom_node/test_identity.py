from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_node.header import read_header
from dicom_node.identity import add_identity, value_of
from dicom_node.modules import ITEMS, TYPE_2
from tests.datasets import image, part10, read_back, with_bytes
from tests.unit.dicom_node.test_report import found, report
from tests.validation import dciodvfy_errors
from tests.ward import words

# Outside of pytest the product keeps pydicom's warnings quiet itself.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# The examples of PS3.5 Annexes H, I, J and K: the bytes of a name in each character set.
NAMES = {
    "ISO_IR 100": b"Buc^J\xe9r\xf4me",
    "ISO_IR 144": b"\xbb\xee\xda\x63\x65\xdc\xd1\x79\x70\xd3^x",
    "ISO_IR 192": b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1=",
    "GB18030": b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=",
    "GBK": b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=",
    "\\ISO 2022 IR 87": (
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
    ),
    "ISO 2022 IR 13\\ISO 2022 IR 87": (
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"
        b"=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J"
    ),
    "\\ISO 2022 IR 149": (
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"
    ),
    "ISO_IR 101": "Wa\u0142\u0119sa^\u0141".encode("iso8859_2"),
    "ISO_IR 126": "\u0394\u03b9\u03bf\u03bd\u03c5\u03c3\u03b9\u03bf\u03c2^A".encode("iso8859_7"),
    "ISO_IR 127": "\u0642\u0628\u0627\u0646\u064a^\u0644\u0646\u0632\u0627\u0631".encode(
        "iso8859_6"
    ),
    "ISO_IR 138": "\u05e9\u05e8\u05d5\u05df^\u05d3\u05d1\u05d5\u05e8\u05d4".encode("iso8859_8"),
    "ISO_IR 148": "\u00c7avu\u015fo\u011flu^\u015e".encode("iso8859_9"),
    "ISO_IR 166": "\u0e19\u0e32\u0e21^\u0e0a\u0e37\u0e48\u0e2d".encode("tis_620"),
    "ISO_IR 13": b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3",
    "\\ISO 2022 IR 58": b"Wang^XiaoDong=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab",
    "\\ISO 2022 IR 159": b"Yamada^Tarou=\x1b$(D0a\x1b(B^\x1b$(D0b\x1b(B",
    "ISO 2022 IR 100\\ISO 2022 IR 144": b"Ivanov^I=\x1b-L\xb8\xd2\xd0\xdd\xde\xd2^\x1b-L\xb8",
}


def source(**attributes):
    return read_back(image(SOPInstanceUID=found(1).sop_instance_uid, **attributes))


def source_with(**values):
    """An image whose elements hold exactly these bytes."""
    return read_back(with_bytes(image(SOPInstanceUID=found(1).sop_instance_uid), **values))


@pytest.mark.parametrize("charset", NAMES)
@pytest.mark.parametrize("touched", [False, True])
def test_a_name_keeps_its_bytes_in_every_character_set(charset, touched):
    name = NAMES[charset]
    family = name.split(b"^")[0].split(b"=")[0]
    evidence = source_with(
        SpecificCharacterSet=charset.encode(), PatientName=name, StudyDescription=family
    )
    if touched:
        assert str(evidence.PatientName)
        assert str(evidence.StudyDescription)
    ds = report([evidence], [found(1)])
    # pydicom drops an empty last group of a name that was looked at; it means the same.
    assert (name.rstrip(b"=") if touched else name) in part10(ds)
    assert str(ds.PatientName) == str(evidence.PatientName)
    assert ds.StudyDescription == evidence.StudyDescription
    assert ds.SpecificCharacterSet == evidence.SpecificCharacterSet
    if charset not in ("GBK", "ISO_IR 13"):  # which the validator does not know, or not in GR
        assert dciodvfy_errors(ds) == []


@pytest.mark.parametrize(
    ("charset", "name", "expected"),
    [
        ("", b"J\xe9r\xf4me^A", "ISO_IR 100"),
        ("ISO_IR 999", b"J\xe9r\xf4me^A", "ISO_IR 100"),
        ("ISO_IR 999", b"J\xc3\xa9r^Ame", "ISO_IR 192"),
        ("ISO_IR 999", b"Jerome^A", None),
        ("", b"Jerome^A", None),
    ],
)
def test_a_missing_or_unknown_character_set_is_replaced_by_one_that_keeps_the_bytes(
    charset, name, expected
):
    evidence = source_with(SpecificCharacterSet=charset.encode(), PatientName=name)
    ds = report([evidence], [found(1)])
    assert ds.get("SpecificCharacterSet") == expected
    assert name in part10(ds)
    assert dciodvfy_errors(ds) == []


@pytest.mark.parametrize("keyword", [*TYPE_2, "SpecificCharacterSet", "Manufacturer", "PatientAge"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_the_evidence_lacks_is_empty_in_a_valid_report(keyword, value):
    ds = report([source(**{keyword: value})], [found(1)])
    assert dciodvfy_errors(ds) == []
    if keyword in TYPE_2:
        assert not ds[keyword].value


def test_everything_missing_at_once_makes_a_valid_report():
    gone = dict.fromkeys([*TYPE_2, "SpecificCharacterSet", "Manufacturer", "Modality"])
    assert dciodvfy_errors(report([source(**gone)], [found(1)])) == []


COPIED = {
    "IssuerOfPatientID": "HOSPITAL",
    "OtherPatientNames": "Other^Name",
    "PatientBirthTime": "101112",
    "PatientComments": "a comment",
    "PatientAge": "004Y",
    "PatientSize": "1.1",
    "PatientWeight": "17.50",
    "PregnancyStatus": 4,
    "SmokingStatus": "NO",
    "StudyDescription": "Chest AP",
    "RequestingService": "Paediatrics",
    "AdmissionID": "A1",
    "MedicalAlerts": ["one", "two"],
    "TimezoneOffsetFromUTC": "+0530",
    "PatientID": " PID 7 ",
    "AccessionNumber": "ACC",
    "NameOfPhysiciansReadingStudy": "Reader^A",
}


@pytest.mark.parametrize("keyword", COPIED)
def test_patient_and_study_attributes_are_copied_as_they_are(keyword):
    evidence = source(**{keyword: COPIED[keyword]})
    ds = report([evidence], [found(1)])
    assert ds[keyword] == evidence[keyword]
    assert dciodvfy_errors(ds) == []


def test_sequences_are_copied_and_not_shared():
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", "Chest"
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3", "ISO"
    evidence = source(
        ProcedureCodeSequence=Sequence([item]),
        IssuerOfPatientIDQualifiersSequence=Sequence([issuer]),
        IssuerOfAccessionNumberSequence=Sequence([issuer]),
    )
    ds = report([evidence], [found(1)])
    assert ds.ProcedureCodeSequence == evidence.ProcedureCodeSequence
    assert ds.IssuerOfPatientIDQualifiersSequence == evidence.IssuerOfPatientIDQualifiersSequence
    assert dciodvfy_errors(ds) == []
    copy = Dataset()
    add_identity(copy, evidence)
    assert copy.ProcedureCodeSequence[0] is not evidence.ProcedureCodeSequence[0]


INVALID = {
    "PatientBirthDate": "2020-01-01",
    "StudyDate": "today",
    "StudyTime": "noon",
    "PatientSex": "female",
    "PatientAge": "4 years",
    "PatientSize": "tall",
    "PatientWeight": "12,5",
    "SmokingStatus": "SOMETIMES",
    "StudyDescription": "x" * 100,
    "TimezoneOffsetFromUTC": "CET",
    "PatientIdentityRemoved": "YES",
    "ResponsiblePerson": "Parent^A",
    "ClinicalTrialProtocolID": "T1",
    "ReferringPhysicianName": "R" * 65,
    "ConsultingPhysicianName": "a^b^c^d^e^f",
    "NameOfPhysiciansReadingStudy": "a=b=c=d",
    "StudyID": "two\\values",
    "AdditionalPatientHistory": "a\0b",
    "PregnancyStatus": "\x09\0",
    "PatientAlternativeCalendar": "JEWISH",
    "ResponsiblePersonRole": "PARENT",
    "PatientBirthDateInAlternativeCalendar": "5780",
    "RequestingService": "two\nlines",
}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDate", b"1996.13.29"),
        ("StudyDate", b"20260102-20260103"),
        ("StudyDate", b"-20260103"),
        ("StudyTime", b"101112-"),
        ("PatientBirthDate", b"20240230"),
        ("StudyDescription", b"Thorax \xc3\x84\xc2\x85"),
    ],
)
def test_what_is_only_for_a_query_no_day_or_no_text_is_left_out(keyword, value):
    ds = report([source_with(**{keyword: value})], [found(1)])
    assert dciodvfy_errors(ds) == []
    assert not ds.get(keyword)


@pytest.mark.parametrize("keyword", INVALID)
def test_what_would_make_the_report_invalid_is_left_out(keyword):
    ds = report([source_with(**{keyword: INVALID[keyword].encode()})], [found(1)])
    assert dciodvfy_errors(ds) == []
    assert not ds.get(keyword)


@pytest.mark.parametrize("keyword", ["PatientID", "PatientName", "AccessionNumber"])
@pytest.mark.parametrize("value", [b"9" * 70, b"two\\values", b"two\nlines"])
def test_what_identifies_is_never_mended(keyword, value):
    ds = report([source_with(**{keyword: value})], [found(1)])
    assert ds.get_item(keyword).value.rstrip() == value


def test_a_value_padded_with_zeros_is_padded_with_blanks():
    ds = report([source_with(PatientID=b"PID7\0\0")], [found(1)])
    assert dciodvfy_errors(ds) == []
    assert ds.PatientID == "PID7"


def test_an_attribute_of_another_vr_gets_its_own():
    evidence = image(SOPInstanceUID=found(1).sop_instance_uid)
    evidence.add_new("PatientID", "UN", b"PID9")
    evidence.add_new("StudyDescription", "ST", "Chest")
    ds = report([read_back(evidence)], [found(1)])
    assert (ds["PatientID"].VR, ds.PatientID) == ("LO", "PID9")
    assert (ds["StudyDescription"].VR, ds.StudyDescription) == ("LO", "Chest")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_the_evidences_encoding_does_not_matter(syntax):
    evidence = image(SOPInstanceUID=found(1).sop_instance_uid, PregnancyStatus=4)
    plain = part10(report([read_back(evidence)], [found(1)]))
    evidence.file_meta.TransferSyntaxUID = syntax
    assert part10(report([read_back(evidence)], [found(1)])) == plain


def test_a_sequence_that_is_none_is_left_out():
    for value in (b"rubbish!", b"", b"\xfe\xff\x00\xe0\xff\xff\xff\x00"):
        ds = report([source_with(ProcedureCodeSequence=value)], [found(1)])
        assert "ProcedureCodeSequence" not in ds
        assert dciodvfy_errors(ds) == []


def test_a_code_without_its_meaning_is_left_out():
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "1", "99X"
    ds = report([source(ProcedureCodeSequence=Sequence([item]))], [found(1)])
    assert "ProcedureCodeSequence" not in ds


def coded(value, meaning, scheme="99X", **more):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    for keyword, each in more.items():
        setattr(item, keyword, each)
    return item


@pytest.mark.parametrize("charset", NAMES)
def test_text_in_sequences_keeps_its_bytes_too(charset):
    evidence = source_with(SpecificCharacterSet=charset.encode(), PatientName=NAMES[charset])
    item = Dataset()
    item.PersonIdentificationCodeSequence = [coded("1", "one")]
    item.InstitutionName = str(evidence.PatientName).split("^")[0].split("=")[0]
    evidence.ReferringPhysicianIdentificationSequence = [item]
    evidence = read_back(evidence)
    ds = report([evidence], [found(1)])
    (copy,) = ds.ReferringPhysicianIdentificationSequence
    (original,) = evidence.ReferringPhysicianIdentificationSequence
    assert copy.get_item("InstitutionName").value == original.get_item("InstitutionName").value
    assert copy.InstitutionName == original.InstitutionName


def test_an_item_keeps_its_own_character_set():
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 192"
    item.PersonIdentificationCodeSequence = [coded("1", "one")]
    item.InstitutionName = "\u5317\u4eac"
    evidence = source(ReferringPhysicianIdentificationSequence=[item])
    (copy,) = report([evidence], [found(1)]).ReferringPhysicianIdentificationSequence
    assert (copy.SpecificCharacterSet, copy.InstitutionName) == ("ISO_IR 192", "\u5317\u4eac")


def test_private_and_invalid_attributes_in_sequences_stay_behind():
    item = coded("1", "Chest", CodingSchemeVersion="v" * 20)
    item.private_block(0x0009, "VENDOR", create=True).add_new(1, "LO", "secret")
    evidence = source(ProcedureCodeSequence=[item, coded("2", "")])
    ds = report([evidence], [found(1)])
    assert [each.CodeValue for each in ds.ProcedureCodeSequence] == ["1"]
    assert "CodingSchemeVersion" not in ds.ProcedureCodeSequence[0]
    assert not [elem for elem in ds.iterall() if elem.tag.is_private]
    assert dciodvfy_errors(ds) == []


@pytest.mark.parametrize("keyword", ITEMS)
def test_an_item_without_what_it_must_have_is_left_out(keyword):
    item = Dataset()
    item.Manufacturer = "Maker"
    ds = report([source(**{keyword: [item]})], [found(1)])
    assert dciodvfy_errors(ds) == []
    assert keyword not in ds


def test_an_animals_report_is_valid_and_a_humans_names_no_breed():
    animal = report([source(PatientSpeciesDescription="Canis", ResponsiblePerson="")], [found(1)])
    assert dciodvfy_errors(animal) == []
    assert animal.PatientSpeciesDescription == "Canis"
    human = report([source(PatientBreedDescription="Beagle")], [found(1)])
    assert dciodvfy_errors(human) == []
    assert "PatientBreedDescription" not in human


def test_looking_at_a_value_does_not_change_it():
    name = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\xff="
    evidence = source_with(SpecificCharacterSet=b"\\ISO 2022 IR 87", PatientID=name)
    before = evidence.get_item("PatientID")
    assert value_of(evidence, "PatientID").startswith("Yamada")
    assert evidence.get_item("PatientID") is before


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("US", b"\x07\0", "7"),
        ("OB", b"PID9", "PID9"),
        ("SQ", b"\xfe\xff\0\xe0\0\0\0\0", None),
    ],
)
def test_an_id_of_another_vr_is_taken_as_far_as_it_is_text(vr, value, expected):
    evidence = image(SOPInstanceUID=found(1).sop_instance_uid)
    evidence["PatientID"] = RawDataElement(Tag("PatientID"), vr, len(value), value, 0, False, True)
    evidence.set_original_encoding(False, True, ["latin_1"])
    ds = report([read_back(evidence)], [found(1)])
    assert (ds.PatientID or None) == expected
    assert dciodvfy_errors(ds) == []


# PS3.5 6.2: a character set under any VR is one; what is none at all is replaced.
@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("UN", b"\0\0\x0a\0\0\0ISO_IR 192", "ISO_IR 192"),
        ("LO", b"\x0a\0ISO_IR 192", "ISO_IR 192"),
        ("CS", b"\x0c\0ISO_IR 192\0\0", "ISO_IR 192"),
        ("PN", b"\x04\0A^B ", None),
        ("US", b"\x02\0\x01\0", None),
        ("CS", b"\x02\0\\\\", None),
    ],
)
def test_a_character_set_of_another_vr_does_not_keep_a_study_from_its_report(vr, value, expected):
    written = b"\x08\0\x05\0CS\x0a\0ISO_IR 100"
    data = part10(image(SOPInstanceUID=found(1).sop_instance_uid))
    evidence = dcmread(BytesIO(data.replace(written, written[:4] + vr.encode() + value)))
    ds = report([evidence], [found(1)])
    assert ds.get("SpecificCharacterSet") == expected
    assert ds.PatientName == "Test^Child"
    assert dciodvfy_errors(ds) == []


@pytest.mark.parametrize(
    ("offset", "valid"),
    [("+1400", True), ("-1200", True), ("-0000", False), ("+1430", False), ("-1230", False)],
)
def test_a_time_zone_that_there_is_none_is_left_out(offset, valid):
    ds = report([source_with(TimezoneOffsetFromUTC=offset.encode())], [found(1)])
    assert ("TimezoneOffsetFromUTC" in ds) is valid


def test_a_uid_is_read_as_the_node_reads_it():
    """The report would not find the answer about an image whose UID it reads in another way."""
    uid = found(1).sop_instance_uid
    data = part10(image(SOPInstanceUID=f"{uid}99")).replace(
        f"{uid}99".encode(), f"{uid}\r\n".encode()
    )
    evidence = dcmread(BytesIO(data))
    assert read_header(data)["SOPInstanceUID"] == uid
    assert value_of(evidence, "SOPInstanceUID") == uid
    assert "not assessed" not in words(report([evidence], [found(1)]))
