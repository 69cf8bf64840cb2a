"""Several instances are decoded at once, with no more children than are needed."""

import threading
from io import BytesIO

import numpy as np
import psutil
import pytest
from pydicom import dcmread

from dicom_node import decoder_child
from dicom_node.decoder_pool import DecoderPool
from dicom_node.errors import InvalidInstance
from dicom_node.pixels import to_pixels
from tests.datasets import image, part10
from tests.fakes import in_threads

LONG_S = 600


def instance(value=7, comment=""):
    pixels = np.array([[0, value], [value, 99]], np.uint16)
    return part10(image(pixels, ImageComments=comment))


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr(decoder_child, "_PROGRAM", "tests.unit.dicom_node.faulty_decoder")
    pool = DecoderPool(3, LONG_S)
    yield pool
    pool.close()


def children():
    """List the decoders that run, not those that have ended."""
    alive = [each for each in psutil.Process().children() if each.status() != "zombie"]
    return [each for each in alive if "faulty" in str(each.cmdline())]


def test_each_caller_gets_its_own_image(pool):
    found = in_threads(8, lambda number: pool.to_pixels(instance(number)))
    for number, pixels in enumerate(found):
        expected = to_pixels(dcmread(BytesIO(instance(number))))
        np.testing.assert_array_equal(pixels, expected)
    assert len(children()) <= 3


def test_who_decodes_one_after_the_other_has_one_child(pool):
    for number in range(4):
        pool.to_pixels(instance(number))
    assert len(children()) == 1


def test_one_that_takes_its_time_holds_up_no_other(pool):
    patient = threading.Thread(target=pool.to_pixels, args=[instance(comment="take time")])
    patient.start()
    assert pool.to_pixels(instance()).shape == (2, 2)
    assert patient.is_alive()
    patient.join()


def test_a_crash_takes_one_instance_with_it(pool):
    with pytest.raises(InvalidInstance, match="crashed"):
        pool.to_pixels(instance(comment="crash"))
    for number in range(4):
        assert pool.to_pixels(instance(number)).shape == (2, 2)
    assert len(children()) == 1


def test_a_pool_that_was_closed_goes_on_with_new_children(pool):
    pool.to_pixels(instance())
    pool.close()
    assert children() == []
    pool.to_pixels(instance())
