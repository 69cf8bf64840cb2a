"""The application entity that our SCP and SCU both start from."""

from __future__ import annotations

from pydicom.uid import UID
from pynetdicom import AE, _config

import dicom_node.privacy  # noqa: F401

# PS3.7 D.3.3.2: names this software in every association (a UID made for it, PS3.5 B.2).
IMPLEMENTATION_CLASS_UID = UID("2.25.203456281913572838291836430427563712433")
IMPLEMENTATION_VERSION_NAME = "CXR_WORKER_1"

# The library's handlers format every message for its debug log, which is costly and unwanted.
_config.LOG_HANDLER_LEVEL = "none"


def application_entity(ae_title: str, timeout_s: float, maximum_pdu: int) -> AE:
    """Return an AE that never waits longer than `timeout_s` for anything.

    Parameters
    ----------
    ae_title : str
        Our own title.
    timeout_s : float
        For the connection, for ACSE and DIMSE answers, and for silence on the network.
    maximum_pdu : int
        Largest PDU we take, in bytes; 0 is unlimited (PS3.8 D.1).
    """
    entity = AE(ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = maximum_pdu
    entity.connection_timeout = timeout_s
    entity.acse_timeout = timeout_s
    entity.dimse_timeout = timeout_s
    entity.network_timeout = timeout_s
    return entity
