"""What the header says about whether an instance may be judged."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from model.fitness import HeaderFacts, Verdict, age_years, check_header

CHILD = {"patient_age": "003Y"}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"modality": "CR", "view_position": "AP", "body_part_examined": "CHEST"}, None),
        ({"modality": "DX", "view_position": "PA"}, None),
        ({"modality": "CT"}, "NOT_CHEST"),
        ({"modality": "DX", "body_part_examined": "HAND"}, "NOT_CHEST"),
        ({"modality": "DX", "body_part_examined": "LOWER LEG"}, "NOT_CHEST"),
        ({"modality": "DX", "view_position": "LL"}, "NOT_FRONTAL"),
        ({"modality": "CR", "view_position": "LATERAL"}, "NOT_FRONTAL"),
        ({"presentation_intent_type": "FOR PROCESSING"}, "FOR_PROCESSING"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "FOR_PROCESSING"),
        ({}, None),
    ],
)
def test_facts_that_rule_an_instance_out_are_named(facts, reason):
    assert check_header(HeaderFacts(**CHILD, **facts)) == Verdict(reason)


@pytest.mark.parametrize(
    ("age", "years"),
    [("003Y", 3), ("018M", 1.5), ("052W", 0.997), ("366D", 1.002), ("3Y", 3)],
)
def test_age_strings_are_read(age, years):
    assert age_years(HeaderFacts(patient_age=age)) == pytest.approx(years, abs=0.001)


@pytest.mark.parametrize("age", ["", "Y", "abcY", "003", "-01Y", "003X"])
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
    ],
)
def test_without_an_age_string_the_birth_date_gives_the_age(born, studied, years):
    facts = HeaderFacts(patient_birth_date=born, study_date=studied)
    assert age_years(facts) == years


@pytest.mark.parametrize("age", ["011M", "006Y", "040Y"])
def test_an_age_outside_the_population_withholds_flags_or_is_ignored(age):
    facts = HeaderFacts(patient_age=age)
    assert check_header(facts, "withhold") == Verdict("OUTSIDE_POPULATION")
    assert check_header(facts, "flag") == Verdict(None, ("OUTSIDE_POPULATION",))
    assert check_header(facts, "ignore") == Verdict()


@pytest.mark.parametrize("age", ["012M", "001Y", "005Y"])
def test_the_population_is_from_one_year_to_the_sixth_birthday(age):
    assert check_header(HeaderFacts(patient_age=age)) == Verdict()


def test_an_unknown_age_is_flagged():
    assert check_header(HeaderFacts()) == Verdict(None, ("AGE_UNKNOWN",))


def test_facts_are_read_from_a_dataset_whatever_it_holds():
    ds = Dataset()
    ds.Modality, ds.ViewPosition, ds.PatientAge = "CR", "AP ", None
    ds.PatientBirthDate, ds.StudyDate = "20200101", "20230101"
    facts = HeaderFacts.from_dataset(ds)
    assert (facts.modality, facts.view_position, facts.patient_age) == ("CR", "AP", "")
    assert age_years(facts) == 3
