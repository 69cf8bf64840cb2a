"""Two patients under one Study Instance UID are told apart; one who was corrected is not two."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.one_patient import contradiction
from tests.datasets import image, read_back, with_bytes

# Outside of pytest the product keeps pydicom's warnings quiet itself.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def of(**attributes: object) -> Dataset:
    return read_back(image(**attributes))


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"PatientID": "PID2"}, "name 2 patients"),
        ({"PatientID": "pid1"}, "name 2 patients"),
        ({"PatientID": ""}, "name 2 patients"),
        ({"IssuerOfPatientID": "NORTH"}, "differ in IssuerOfPatientID"),
        ({"PatientBirthDate": "20220102"}, "differ in PatientBirthDate"),
        ({"PatientSex": "M"}, "differ in PatientSex"),
        ({"PatientName": "Other^Person", "PatientBirthDate": ""}, "differ in PatientName"),
        ({"PatientSex": "M", "PatientBirthDate": "20190101"},
         "differ in PatientBirthDate and PatientSex"),
    ],
)  # fmt: skip
def test_what_is_another_patients_is_told_without_its_value(
    attributes: dict[str, str], words: str
) -> None:
    assert contradiction([of(IssuerOfPatientID="SOUTH"), of(**attributes)]) == words


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"PatientID": " PID1 "},
        {"IssuerOfPatientID": "south"},
        {"IssuerOfPatientID": ""},
        {"PatientBirthDate": ""},
        {"PatientBirthDate": "00000000"},
        {"PatientBirthDate": "2022.01.01"},
        {"PatientSex": "O"},
        {"PatientSex": ""},
        {"PatientName": "Other^Person"},  # the date of birth vouches for it
        {"PatientName": "Married^Child", "PatientBirthDate": ""},
        {"PatientName": "TEST^CHILD^^ ", "PatientBirthDate": ""},
        {"PatientName": "", "PatientBirthDate": ""},
    ],
)
def test_what_is_missing_padded_or_corrected_is_the_same_patients(
    attributes: dict[str, str],
) -> None:
    assert contradiction([of(IssuerOfPatientID="SOUTH"), of(**attributes)]) is None


def test_all_images_count_and_not_neighbours_only() -> None:
    names = ("Doe^Alice", "Doe^Bob", "Roe^Bob")
    studies = [of(PatientName=name, PatientBirthDate="") for name in names]
    assert contradiction(studies[:2]) is None
    assert contradiction(studies[1:]) is None
    assert contradiction(studies) == "differ in PatientName"


def test_without_an_id_dates_of_birth_tell_two_of_one_name_apart() -> None:
    twins = [of(PatientID="", PatientBirthDate=day) for day in ("20220101", "20220103")]
    assert contradiction(twins) == "differ in PatientBirthDate"


@pytest.mark.parametrize("keyword", ["PatientID", "PatientName"])
def test_values_that_are_illegible_in_their_character_set_are_told_apart(keyword: str) -> None:
    def written(value: bytes) -> Dataset:
        ds = image(SpecificCharacterSet="ISO_IR 192", PatientID="", PatientBirthDate="")
        return read_back(with_bytes(ds, **{keyword: value}))

    both = [written("王".encode("gb18030")), written("李".encode("gb18030"))]
    assert contradiction(both) == "name 2 patients"
    assert contradiction([both[0], written("王".encode("gb18030"))]) is None


def test_a_name_is_the_same_in_another_character_set() -> None:
    both = [
        of(SpecificCharacterSet=terms, PatientName="Müller^Jörg", PatientBirthDate="")
        for terms in ("ISO_IR 100", "ISO_IR 192")
    ]
    plain = of(PatientName="Muller^Jorg", PatientBirthDate="")
    assert contradiction([*both, plain]) is None


def test_a_name_in_another_script_may_be_the_same() -> None:
    latin = of(PatientName="Yamada^Tarou", PatientBirthDate="")
    kanji = of(SpecificCharacterSet="ISO_IR 192", PatientName="山田^太郎", PatientBirthDate="")
    assert contradiction([latin, kanji]) is None
