import pickle

import pytest

from dicom_node.errors import (
    ConfigurationError,
    InvalidInstance,
    PacsWorkerError,
    PeerError,
    ReportRefused,
    UnsupportedInstance,
)


def test_instance_errors_carry_their_reason_and_uid():
    error = UnsupportedInstance("TOO_LARGE", "The image is too large.", "1.2.3")
    assert (error.reason, error.sop_instance_uid) == ("TOO_LARGE", "1.2.3")
    assert str(error) == "The image is too large."
    assert InvalidInstance("UNDECODABLE", "no").sop_instance_uid is None


def test_peer_errors_carry_peer_and_status():
    for kind in (PeerError, ReportRefused):
        error = kind("Not now.", peer="PACS@host:104", status=0xA700)
        assert (error.peer, error.status) == ("PACS@host:104", 0xA700)


def test_a_configuration_error_is_one_line_that_names_the_setting():
    error = ConfigurationError("CXR_PORT", "must be\n a number")
    assert str(error) == "CXR_PORT: must be a number"
    assert error.setting == "CXR_PORT"


def test_other_fields_become_attributes():
    assert PacsWorkerError("x", study="1.2").study == "1.2"


@pytest.mark.parametrize(
    "error",
    [
        UnsupportedInstance("TOO_LARGE", "The image is too large.", "1.2.3"),
        InvalidInstance("UNDECODABLE", "No."),
        PeerError("Not now.", "PACS@host:104", 0xA700),
        ReportRefused("Never.", "PACS@host:104", 0xC000),
        ConfigurationError("CXR_PORT", "must be a number"),
        PacsWorkerError("x", study="1.2"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_to_another_process(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
