"""What the header says about whether an instance may be judged."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.codes import NOT_ASSESSED_REASONS, VIEWS, code_item
from model.fitness import (
    FOR_PROCESSING,
    NOT_CHEST,
    NOT_FRONTAL,
    OUTSIDE_POPULATION,
    HeaderFacts,
    Verdict,
    age_years,
    check_header,
)

CHILD = {"patient_age": "003Y"}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"modality": "CR", "view_position": "AP", "body_part_examined": "CHEST"}, None),
        ({"modality": "DX", "view_position": "PA"}, None),
        ({"modality": "CT"}, "NOT_CHEST"),
        ({"modality": "MG"}, "NOT_CHEST"),
        ({"modality": "PX"}, "NOT_CHEST"),
        ({"modality": "DX", "body_part_examined": "HAND"}, "NOT_CHEST"),
        ({"modality": "DX", "body_part_examined": "LOWER LEG"}, "NOT_CHEST"),
        ({"body_part_examined": "KNEES"}, "NOT_CHEST"),
        ({"body_part_examined": "RIGHT HAND"}, "NOT_CHEST"),
        ({"body_part_examined": "T_SPINE"}, "NOT_CHEST"),
        ({"body_part_examined": "CHEST", "region_code": "85562004"}, "NOT_CHEST"),
        ({"region_code": "T-D8700"}, "NOT_CHEST"),
        ({"region_code": "816094009"}, None),
        ({"body_part_examined": "CHEST L"}, None),
        ({"body_part_examined": "THORAX"}, None),
        ({"body_part_examined": "A LOCAL WORD"}, None),
        ({"modality": "DX", "view_position": "LL"}, "NOT_FRONTAL"),
        ({"modality": "CR", "view_position": "LATERAL"}, "NOT_FRONTAL"),
        ({"view_position": "LEFT LATERAL"}, "NOT_FRONTAL"),
        ({"view_position": "L_LAT"}, "NOT_FRONTAL"),
        ({"view_position": "RAO"}, "NOT_FRONTAL"),
        ({"view_position": "LLD"}, "NOT_FRONTAL"),
        ({"view_position": "AP SUPINE"}, None),
        ({"view_code": "399173006"}, "NOT_FRONTAL"),
        ({"view_code": "R-10232"}, "NOT_FRONTAL"),
        ({"view_code": "399348003"}, None),
        ({"row_orientation": "A"}, "NOT_FRONTAL"),
        ({"row_orientation": "PL"}, "NOT_FRONTAL"),
        ({"row_orientation": "L"}, None),
        ({"row_orientation": "A", "view_position": "AP"}, None),
        ({"presentation_intent_type": "FOR PROCESSING"}, "FOR_PROCESSING"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "FOR_PROCESSING"),
        ({}, None),
    ],
)
def test_facts_that_rule_an_instance_out_are_named(facts, reason):
    assert check_header(HeaderFacts(**CHILD, **facts)) == Verdict(reason)


@pytest.mark.parametrize(
    ("age", "years"),
    [("003Y", 3), ("018M", 1.5), ("052W", 0.997), ("365D", 1), ("3Y", 3), ("000Y", 0)],
)
def test_age_strings_are_read(age, years):
    assert age_years(HeaderFacts(patient_age=age)) == pytest.approx(years, abs=0.001)


@pytest.mark.parametrize("age", ["", "Y", "abcY", "003", "-01Y", "003X", "999Y"])
def test_an_age_that_cannot_be_read_is_unknown(age):
    assert age_years(HeaderFacts(patient_age=age)) is None


@pytest.mark.parametrize(
    ("born", "studied", "years"),
    [
        ("20200229", "20210228", 0),
        ("20200229", "20210301", 1),
        ("20200101", "20250101", 5),
        ("20200101", "", None),
        ("20200101", "20190101", None),
        ("rubbish!", "20200101", None),
        ("19000101", "20260101", None),  # what anonymisers write
    ],
)
def test_without_an_age_string_the_birth_date_gives_the_age(born, studied, years):
    facts = HeaderFacts(patient_birth_date=born, study_date=studied)
    assert age_years(facts) == years


@pytest.mark.parametrize(
    ("age", "born", "years"),
    [
        ("003Y", "19860101", None),  # somebody's of forty
        ("001Y", "20251201", 1),  # a birthday apart
        ("004Y", "20251201", None),  # a baby's
        ("005Y", "20200101", 5),
        ("003Y", "20210101", 3),
        ("003Y", "19000101", 3),  # what anonymisers write
        ("040Y", "20230101", 40),
        ("999Y", "20230101", 3),
    ],
)
def test_an_age_that_the_date_of_birth_speaks_against_is_not_known(age, born, years):
    facts = HeaderFacts(patient_age=age, patient_birth_date=born, study_date="20260601")
    assert age_years(facts) == years


@pytest.mark.parametrize("age", ["011M", "006Y", "040Y"])
def test_an_age_outside_the_population_withholds_flags_or_is_ignored(age):
    facts = HeaderFacts(patient_age=age)
    assert check_header(facts, "withhold") == Verdict("OUTSIDE_POPULATION")
    assert check_header(facts, "flag") == Verdict(None, ("OUTSIDE_POPULATION",))
    assert check_header(facts, "ignore") == Verdict()


@pytest.mark.parametrize("age", ["012M", "365D", "001Y", "005Y", "071M"])
def test_the_population_is_from_one_year_to_the_sixth_birthday(age):
    assert check_header(HeaderFacts(patient_age=age)) == Verdict()


@pytest.mark.parametrize("population", ["withhold", "flag", "ignore"])
def test_an_unknown_age_is_flagged(population):
    assert check_header(HeaderFacts(), population) == Verdict(None, ("AGE_UNKNOWN",))


def test_every_reason_is_one_that_reports_can_give():
    reasons = {NOT_CHEST, NOT_FRONTAL, FOR_PROCESSING, OUTSIDE_POPULATION}
    assert reasons <= set(NOT_ASSESSED_REASONS)


def test_facts_are_read_from_a_dataset_whatever_it_holds():
    ds = Dataset()
    ds.Modality, ds.ViewPosition, ds.PatientAge = "CR", "AP ", None
    ds.PatientBirthDate, ds.StudyDate = "20200101", "20230101"
    facts = HeaderFacts.from_dataset(ds)
    assert (facts.modality, facts.view_position, facts.patient_age) == ("CR", "AP", "")
    assert age_years(facts) == 3


def test_codes_and_the_orientation_are_read_from_a_dataset():
    ds = Dataset()
    ds.ViewCodeSequence = [code_item(VIEWS["LL"])]
    ds.AnatomicRegionSequence = []
    ds.PatientOrientation = ["A", "F"]
    facts = HeaderFacts.from_dataset(ds)
    assert (facts.view_code, facts.region_code, facts.row_orientation) == ("399173006", "", "A")


@pytest.mark.parametrize("keyword", ["AcquisitionDate", "SeriesDate", "ContentDate"])
def test_another_date_stands_in_for_the_study_date(keyword):
    ds = Dataset()
    for useless in ("", "20250231"):
        ds.PatientBirthDate, ds.StudyDate = "20220101", useless
        setattr(ds, keyword, "20250101")
        assert age_years(HeaderFacts.from_dataset(ds)) == 3
