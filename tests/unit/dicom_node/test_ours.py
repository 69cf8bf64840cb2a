import pytest

from dicom_node.findings import AlgorithmDevice
from dicom_node.ours import OUR_SOP_CLASSES, is_ours

DX = "1.2.840.10008.5.1.4.1.1.1.1"


@pytest.mark.parametrize("sop_class", sorted(OUR_SOP_CLASSES))
def test_what_a_cxr_worker_made_is_ours_and_what_others_made_is_not(sop_class):
    device = AlgorithmDevice("m", "1", "d" * 64, 0.5, (0.4, 0.6), 1.0, calibrated=True)
    assert is_ours({"SOPClassUID": sop_class, "Manufacturer": device.manufacturer})
    assert not is_ours({"SOPClassUID": sop_class, "Manufacturer": "Maker"})
    assert not is_ours({"SOPClassUID": sop_class, "Manufacturer": ""})


def test_a_radiograph_that_we_wrapped_is_to_be_assessed():
    assert not is_ours({"SOPClassUID": DX, "Manufacturer": "cxr-worker"})


def test_reports_flags_and_pictures_are_known():
    assert len(OUR_SOP_CLASSES) == 5
