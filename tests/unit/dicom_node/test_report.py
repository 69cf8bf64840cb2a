import logging
import re
import warnings
from datetime import UTC, datetime, timedelta, timezone

import pytest
from highdicom import sr
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom_node.codes import NOT_ASSESSED_REASONS
from dicom_node.contexts import STORAGE_SOP_CLASSES
from dicom_node.report import (
    TEMPLATE_VERSION,
    AlgorithmDevice,
    InstanceFinding,
    build_report,
    report_series_uid,
    report_uid,
    summary,
)
from tests import by_highdicom
from tests.datasets import ROOT, STUDY_UID, image, part10, pydicom_data, read, read_back
from tests.validation import dciodvfy_errors

DIGEST = "ab" * 32
DEVICE = AlgorithmDevice(
    name="cxr-resnet",
    version="1.0",
    digest=DIGEST,
    threshold=0.5,
    undetermined=(0.4, 0.6),
    temperature=1.3,
    calibrated=True,
)
WHEN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def evidence(count=1, **attributes):
    return [
        read_back(image(SOPInstanceUID=f"{ROOT}.1{n}", InstanceNumber=n, **attributes))
        for n in range(1, count + 1)
    ]


def found(number, finding="PRESENT", pneumonia=0.9731, **more):
    return InstanceFinding(f"{ROOT}.1{number}", True, None, finding, pneumonia, **more)


def refused(number, reason="NOT_FRONTAL"):
    return InstanceFinding(f"{ROOT}.1{number}", False, reason)


def report(instances, findings, device=DEVICE, **more):
    uids = [ds.SOPInstanceUID for ds in instances]
    arguments = {
        "sop_instance_uid": report_uid(STUDY_UID, uids, DIGEST, TEMPLATE_VERSION),
        "series_instance_uid": report_series_uid(STUDY_UID, DIGEST),
        "revision": 1,
        "content_datetime": WHEN,
    } | more
    return read(build_report(instances, findings, device, **arguments))


def items(ds, **wanted):
    """All content items below `ds`, in order, of a value type or with a concept name."""
    result = []
    for item in ds.get("ContentSequence", []):
        name = next((each.CodeValue for each in item.get("ConceptNameCodeSequence", [])), None)
        if wanted.items() <= {"type": item.ValueType, "name": name}.items():
            result.append(item)
        result += items(item, **wanted)
    return result


def code(item):
    return item.ConceptCodeSequence[0].CodeValue


def number(item):
    return float(item.MeasuredValueSequence[0].NumericValue)


def groups(ds):
    return items(ds, name="125007")


def text(ds):
    return items(ds, name="121111")[0].TextValue


TWO = evidence(2)
REPORTS = {
    "one image": lambda: report(evidence(), [found(1)]),
    "two images": lambda: report(TWO, [found(1), found(2, "ABSENT", 0.03)]),
    "a mixture": lambda: report(TWO, [found(1, "UNDETERMINED", 0.5), refused(2)]),
    "nothing assessed": lambda: report(TWO, [refused(1, "NOT_CHEST"), refused(2, "UNDECODABLE")]),
    "no finding at all": lambda: report(TWO, []),
    "kinds and flags": lambda: report(
        TWO,
        [
            found(1, bacterial=0.8, viral=0.2, flags=("AGE_UNKNOWN",)),
            found(2, "ABSENT", 0.1, bacterial=0.8, viral=0.2),
        ],
    ),
    "an uncalibrated model": lambda: report(
        evidence(),
        [found(1)],
        AlgorithmDevice("m", "1", DIGEST, 0.5, (0.5, 0.5), 1.0, calibrated=False),
    ),
    "a revision": lambda: report(
        TWO, [found(1), found(2)], revision=2, predecessor=report(evidence(), [found(1)])
    ),
    "size unknown": lambda: report(evidence(Rows=None), [found(1)]),
    "two series": lambda: report(
        [*evidence(), *evidence(3, SeriesInstanceUID=f"{ROOT}.22", SeriesNumber=2)[1:]],
        [found(number, pneumonia=number / 3) for number in (1, 2, 3)],
    ),
    "an odd device": lambda: report(
        evidence(),
        [found(1)],
        AlgorithmDevice(
            "m\u00f6del" * 30,
            "1",
            DIGEST,
            0.123456789,
            (1e-9, 1),
            1,
            True,
            manufacturer="Maker \u00e4" * 9,
            station_name="south",
            device_uid="1.2.3",
        ),
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_the_validator_finds_no_error(name):
    assert dciodvfy_errors(REPORTS[name]()) == []


@pytest.mark.parametrize("name", REPORTS)
def test_the_same_arguments_make_the_same_bytes(name):
    assert part10(REPORTS[name]()) == part10(REPORTS[name]())


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_survives_being_written_and_read(name):
    ds = REPORTS[name]()
    assert part10(read_back(ds)) == part10(ds)
    assert read_back(ds) == ds


def test_the_order_of_evidence_and_findings_does_not_matter():
    findings = [found(1), refused(2)]
    assert part10(report(TWO, findings)) == part10(report(TWO[::-1], findings[::-1]))


def test_the_evidence_is_not_changed():
    instances = evidence(2, PatientID=None)
    before = [part10(ds) for ds in instances]
    report(instances, [found(1), refused(2)])
    assert [part10(ds) for ds in instances] == before


def test_it_is_a_complete_preliminary_unverified_measurement_report():
    ds = REPORTS["one image"]()
    assert UID(ds.SOPClassUID).name == "Comprehensive 3D SR Storage"
    assert ds.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert ds.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (ds.CompletionFlag, ds.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert ds.PreliminaryFlag == "PRELIMINARY"
    assert ds.Modality == "SR"
    assert ds.SeriesNumber >= 900
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID


def test_highdicom_reads_the_report_as_its_template():
    document = sr.Comprehensive3DSR.from_dataset(REPORTS["a mixture"]())
    content = document.content
    assert isinstance(content, sr.MeasurementReport)
    assessed, unassessed = content.get_planar_roi_measurement_groups()
    assert assessed.finding_type == Code("233604007", "SCT", "Pneumonia")
    assert unassessed.finding_type is None


@pytest.mark.parametrize("name", REPORTS)
def test_it_is_byte_for_byte_what_highdicom_makes(name, monkeypatch):
    ours = part10(REPORTS[name]())
    monkeypatch.setitem(globals(), "build_report", by_highdicom.build_report)
    assert part10(REPORTS[name]()) == ours


@pytest.mark.parametrize("reason", [*NOT_ASSESSED_REASONS, "ANOTHER"])
def test_what_is_not_assessed_is_told_as_highdicom_does(reason, monkeypatch):
    ours = part10(report(evidence(), [refused(1, reason)]))
    monkeypatch.setitem(globals(), "build_report", by_highdicom.build_report)
    assert part10(report(evidence(), [refused(1, reason)])) == ours


def test_a_present_pneumonia_has_its_codes_and_its_probability():
    (group,) = groups(REPORTS["one image"]())
    assert code(items(group, name="121071")[0]) == "233604007"
    assert code(items(group, name="363698007")[0]) == "39607008"
    assert code(items(group, name="121052")[0]) == "52101004"
    (score,) = items(group, type="NUM")
    assert score.ConceptNameCodeSequence[0].CodeValue == "122157"
    assert number(score) == 97.31
    assert score.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "%"


@pytest.mark.parametrize(
    ("finding", "presence"),
    [("PRESENT", "52101004"), ("ABSENT", "272519000"), ("UNDETERMINED", "373068000")],
)
def test_each_answer_has_its_code(finding, presence):
    ds = report(evidence(), [found(1, finding)])
    assert code(items(ds, name="121052")[0]) == presence
    assert f"pneumonia {finding.lower()}" in text(ds)


def test_a_score_that_is_not_calibrated_is_a_certainty():
    ds = REPORTS["an uncalibrated model"]()
    (score,) = items(ds, type="NUM")
    assert score.ConceptNameCodeSequence[0].CodeValue == "111012"
    assert "certainty 97.3 %" in text(ds)


def test_the_kinds_of_a_pneumonia_are_told_and_of_an_absent_one_are_not():
    present, absent = groups(REPORTS["kinds and flags"]())
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in items(present, type="NUM")]
    assert names == ["122157", "53084003", "75570004"]
    assert [number(item) for item in items(present, type="NUM")] == [97.31, 80, 20]
    assert len(items(absent, type="NUM")) == 1


def test_each_image_assessed_or_not_is_a_region_of_its_whole_field():
    ds = REPORTS["a mixture"]()
    for group, instance in zip(groups(ds), TWO, strict=True):
        (region,) = items(group, type="SCOORD")
        assert region.GraphicType == "POLYLINE"
        assert region.GraphicData == [0, 0, 8, 0, 8, 8, 0, 8, 0, 0]
        (source,) = items(group, type="IMAGE")
        assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == instance.SOPInstanceUID


@pytest.mark.parametrize("size", [0, None, 2**17])
def test_without_a_size_the_image_itself_is_referred_to(size):
    instance = image(SOPInstanceUID=f"{ROOT}.11")
    del instance.Rows
    if size is not None:
        instance.add_new("Rows", "UL", size)
    (group,) = groups(report([instance], [found(1)]))
    assert not items(group, type="SCOORD")
    assert len(items(group, type="IMAGE")) == 1


def test_every_instance_is_evidence_assessed_or_not():
    ds = report(evidence(3), [found(1), refused(2)])
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == STUDY_UID
    (series,) = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [
        f"{ROOT}.11",
        f"{ROOT}.12",
        f"{ROOT}.13",
    ]


def test_the_image_library_lists_every_instance_in_the_readers_order():
    (library,) = items(report(evidence(3)[::-1], [found(1), refused(2)]), name="111028")
    listed = [item.ReferencedSOPSequence[0] for item in items(library, type="IMAGE")]
    assert [each.ReferencedSOPInstanceUID for each in listed] == [f"{ROOT}.1{n}" for n in (1, 2, 3)]


def test_an_image_is_named_by_the_numbers_that_a_viewer_shows():
    instances = evidence(2)
    instances[1].SeriesNumber = None
    ds = report(instances, [found(1), found(2)])
    names = [item.TextValue for item in items(ds, name="112039")]
    assert names == ["Image 1", "Image 2 (series 1, image 1)"]


def test_an_instance_without_a_finding_is_not_passed_over():
    ds = report(evidence(3), [found(1), refused(2)])
    assert len(groups(ds)) == 3
    assert "image 3 not assessed, because the analysis failed" in text(ds)


def test_the_algorithm_is_identified_with_its_parameters():
    (group,) = groups(REPORTS["one image"]())
    assert items(group, name="111001")[0].TextValue == "cxr-resnet"
    assert items(group, name="111003")[0].TextValue == "1.0"
    assert code(items(group, name="111000")[0]) == "123110"
    assert [item.TextValue for item in items(group, name="111002")] == [
        "threshold: 0.5",
        "undetermined: 0.4 to 0.6",
        "temperature: 1.3",
        f"weights: sha256 {DIGEST}",
    ]


def test_the_observer_is_a_device_and_the_language_english():
    ds = REPORTS["one image"]()
    assert code(items(ds, name="121005")[0]) == "121007"
    assert UID(items(ds, name="121012")[0].UID).is_valid
    assert items(ds, name="121014")[0].TextValue == "cxr-worker"
    assert code(items(ds, name="121049")[0]) == "en"
    assert code(items(ds, name="121058")[0]) == "363679005"


def test_tracking_uids_differ_by_image_and_stay_between_revisions():
    first, second = [i.UID for i in items(REPORTS["two images"](), name="112040")]
    assert first != second
    assert first == items(REPORTS["a revision"](), name="112040")[0].UID


@pytest.mark.parametrize("reason", NOT_ASSESSED_REASONS)
def test_an_image_that_was_not_assessed_has_a_reason_and_no_score(reason):
    ds = report(evidence(), [refused(1, reason)])
    sentence, quality = NOT_ASSESSED_REASONS[reason]
    assert items(ds, type="NUM") == items(ds, name="121052") == items(ds, name="121071") == []
    assert f"image 1 not assessed, because {sentence}" in text(ds)
    assert reason in items(ds, name="121106")[0].TextValue
    assert [code(item) for item in items(ds, name="111052")] == ([quality.value] if quality else [])
    assert dciodvfy_errors(ds) == []


def test_a_reason_without_words_is_told_as_it_is():
    assert "because SOMETHING_NEW" in text(report(evidence(), [refused(1, "SOMETHING_NEW")]))
    assert "the analysis failed" in text(report(evidence(), [refused(1, None)]))


def test_the_sentence_reads_like_a_sentence():
    findings = [found(1), found(2, "ABSENT", 0.031), refused(3)]
    assert summary(evidence(3), findings, DEVICE) == (
        "Automated analysis: pneumonia present in image 1 (probability 97.3 %); "
        "pneumonia absent in image 2 (probability 3.1 %); "
        "image 3 not assessed, because the image is not a frontal view. "
        "Intended for frontal (AP) chest radiographs of children aged 1 to 5 years; "
        "not for primary diagnosis."
    )


def test_the_sentence_comes_before_the_measurements_and_stays_short():
    many = evidence(9)
    ds = report(many, [found(n) for n in range(1, 10)])
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in ds.ContentSequence]
    assert names[-2:] == ["121111", "126010"]
    assert "pneumonia present in 9 images" in text(ds)


def test_a_flag_is_told_to_the_reader():
    ds = REPORTS["kinds and flags"]()
    assert "the patient's age is not known" in text(ds)
    comments = [item.TextValue for item in items(groups(ds)[0], name="121106")]
    assert comments[0] == "the patient's age is not known"


def test_a_revision_names_its_predecessor():
    ds, first = REPORTS["a revision"](), REPORTS["one image"]()
    (study,) = ds.PredecessorDocumentsSequence
    reference = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert ds.SeriesInstanceUID == first.SeriesInstanceUID
    assert (ds.InstanceNumber, first.InstanceNumber) == (2, 1)
    assert "PredecessorDocumentsSequence" not in first


def test_uids_depend_on_study_evidence_model_and_template_only():
    uid = report_uid("1.2", ["1", "2"], DIGEST, "1")
    assert UID(uid).is_valid
    assert uid.startswith("2.25.")
    assert uid == report_uid("1.2", ["2", "1", "2"], DIGEST, "1")
    others = [
        report_uid("1.3", ["1", "2"], DIGEST, "1"),
        report_uid("1.2", ["1"], DIGEST, "1"),
        report_uid("1.2", ["1", "2"], "cd" * 32, "1"),
        report_uid("1.2", ["1", "2"], DIGEST, "2"),
        report_series_uid("1.2", DIGEST),
    ]
    assert len({uid, *others}) == 6


def test_times_are_in_the_studys_time_zone_when_it_states_one():
    ds = report(evidence(TimezoneOffsetFromUTC="-0330"), [found(1)])
    assert (ds.ContentDate, ds.ContentTime) == ("20260304", "013607")
    assert ds.TimezoneOffsetFromUTC == "-0330"
    assert ds.InstanceCreationDate == "20260304"
    local = WHEN.astimezone(timezone(timedelta(hours=9)))
    ds = report(evidence(), [found(1)], content_datetime=local)
    assert ds.ContentTime == "140607"
    assert "TimezoneOffsetFromUTC" not in ds


def test_the_acquiring_equipment_contributed():
    (item,) = report(evidence(StationName="ROOM1"), [found(1)]).ContributingEquipmentSequence
    assert (item.Manufacturer, item.StationName) == ("Maker", "ROOM1")
    assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert "ContributingEquipmentSequence" not in report(evidence(Manufacturer=""), [found(1)])


@pytest.mark.parametrize(
    ("charset", "manufacturer", "expected"),
    [
        ("ISO_IR 100", "M\u00e4ker", "M\u00e4ker"),
        (None, "M\u00e4ker", "M?ker"),
        ("ISO_IR 100", "two\nlines", None),
        ("ISO_IR 100", "two\\values", None),
        ("ISO_IR 100", "M" * 70, "M" * 64),
    ],
)
def test_the_equipment_is_told_as_far_as_it_is_valid(charset, manufacturer, expected):
    ds = report(evidence(SpecificCharacterSet=charset, Manufacturer=manufacturer), [found(1)])
    contributed = ds.get("ContributingEquipmentSequence")
    assert (contributed[0].Manufacturer if contributed else None) == expected
    assert dciodvfy_errors(ds) == []


def asked(**attributes):
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def test_the_requested_procedures_are_named():
    instances = evidence(
        RequestAttributesSequence=[
            asked(RequestedProcedureID="RP1", RequestedProcedureDescription="Chest AP"),
            asked(ScheduledProcedureStepDescription="nothing that names a request"),
        ],
        AccessionNumber="",
    )
    ds = report(instances, [found(1)])
    (request,) = ds.ReferencedRequestSequence
    assert (request.RequestedProcedureID, request.AccessionNumber) == ("RP1", "")
    assert request.RequestedProcedureDescription == "Chest AP"
    assert request.StudyInstanceUID == STUDY_UID
    assert dciodvfy_errors(ds) == []


def test_a_request_has_the_studys_accession_number_unless_its_own():
    requests = [asked(RequestedProcedureID="RP1"), asked(AccessionNumber="OTHER")]
    ds = report(evidence(RequestAttributesSequence=requests), [found(1)])
    numbers = [item.AccessionNumber for item in ds.ReferencedRequestSequence]
    assert numbers == ["ACC1", "OTHER"]
    assert "ReferencedRequestSequence" not in report(evidence(), [found(1)])


@pytest.mark.parametrize("sop_class", STORAGE_SOP_CLASSES)
def test_every_class_that_is_stored_can_be_reported_on(sop_class):
    ds = report(evidence(SOPClassUID=sop_class), [found(1)])
    assert dciodvfy_errors(ds) == []
    assert len(items(ds, type="SCOORD")) == 1


def test_no_private_attribute_enters_the_report():
    instance = image(SOPInstanceUID=f"{ROOT}.11")
    instance.private_block(0x0009, "VENDOR", create=True).add_new(1, "LO", "secret")
    ds = report([read_back(instance)], [found(1)])
    assert not [elem for elem in ds.iterall() if elem.tag.is_private]


def test_without_evidence_there_is_no_report():
    with pytest.raises(ValueError, match="evidence"):
        report([], [])


def test_nothing_of_the_patient_is_logged_or_warned_about(caplog):
    instances = evidence(PatientName="SECRET^=^=", PatientBirthDate="SECRET", PatientSex="SECRET")
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report(instances, [found(1)])
    assert "SECRET" not in caplog.text
    assert not [w for w in caught if "SECRET" in str(w.message)]


@pytest.mark.parametrize("name", ["RG1_UNCR", "RG3_J2KI", "RG1_J2KR"])
def test_a_report_about_a_real_radiograph_is_valid(name):
    ds = dcmread(pydicom_data() / f"{name}.dcm", stop_before_pixels=True)
    finding = InstanceFinding(ds.SOPInstanceUID, True, None, "ABSENT", 0.2)
    result = report([ds], [finding])
    assert dciodvfy_errors(result) == []
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyDate", "StudyDescription"):
        assert result[keyword].value == ds[keyword].value


def test_our_own_words_are_ascii():
    ds = report(
        evidence(), [found(1)], AlgorithmDevice("mod\u00e9l", "1", DIGEST, 0.5, (0, 1), 1, True)
    )
    assert not re.search(rb"[\x80-\xff]", items(ds, name="111001")[0].TextValue.encode())
