"""Whatever arrives is stored or refused, assessed or refused, and reported on."""

import random
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.archive import Archive
from dicom_node.errors import InstanceError
from dicom_node.pixels import to_pixels
from dicom_node.reception import handle_store
from tests.datasets import image, part10
from tests.unit.dicom_node.test_reception import FakeEvent, FakeRecord
from tests.unit.dicom_node.test_report import InstanceFinding, report
from tests.validation import dciodvfy_errors

# Outside of pytest the product keeps pydicom's warnings quiet itself.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SMALL = part10(image(np.zeros((2, 2), np.uint16)))


def damaged(seed):
    """A small instance with one to four bytes changed, or its end missing."""
    chance = random.Random(seed)
    data = bytearray(SMALL)
    for _ in range(chance.choice([1, 1, 2, 4])):
        data[chance.randrange(132, len(data))] = chance.choice(
            [0, 0xFF, 0x2A, chance.randrange(256)]
        )
    return bytes(data[: chance.randrange(132, len(data))] if chance.random() < 0.1 else data)


@pytest.mark.parametrize("seed", range(0, 200, 50))
def test_damaged_instances_are_stored_or_refused_and_what_is_stored_is_reported_on(seed, tmp_path):
    archive = Archive(tmp_path / "archive")
    for data in map(damaged, range(seed, seed + 50)):
        status = handle_store(FakeEvent(image(), data=data), archive, FakeRecord())
        assert status in (0x0000, 0xA900, 0xC000)
        if status == 0x0000:
            ds = dcmread(BytesIO(data))
            with suppress(InstanceError):
                assert to_pixels(ds).dtype == np.float32
            assert report([ds], [InstanceFinding(image().SOPInstanceUID, False, "UNDECODABLE")])


@pytest.mark.parametrize(
    "tag", [b"\x10\x00\x10\x00PN", b"\x08\x00\x50\x00SH", b"\x18\x00\x15\x00CS"]
)
def test_an_attribute_of_a_vr_that_does_not_exist_harms_nobody(tag):
    data = part10(image())
    assert tag in data
    ds = dcmread(BytesIO(data.replace(tag, tag[:4] + b"ZZ")))
    assert to_pixels(ds).shape == (8, 8)
    result = report([ds], [InstanceFinding(image().SOPInstanceUID, True, None, "ABSENT", 0.1)])
    assert result.PatientName == "Test^Child"
    assert result.AccessionNumber == "ACC1"
    assert dciodvfy_errors(result) == []


@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth", "PixelPaddingValue"])
def test_a_number_that_is_none_is_as_good_as_absent(keyword):
    ds = image(np.array([[0, 50, 100]], np.uint8), **{keyword: 1})
    data = part10(ds)
    elem = ds[keyword]
    at = data.index(elem.tag.group.to_bytes(2, "little") + elem.tag.element.to_bytes(2, "little"))
    ds = dcmread(BytesIO(data[: at + 8] + b"?" + data[at + 9 :]))
    np.testing.assert_allclose(to_pixels(ds), [[0, 0.5, 1]])
