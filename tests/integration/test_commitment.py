"""Reports that destinations confirm to keep, each in its own way, with real processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedSRStorage
from pynetdicom import AE, build_role, evt

from dicom_node.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    Commitment,
    Reference,
    read_request,
    result_dataset,
)
from dicom_node.contexts import REPORT_SOP_CLASSES
from dicom_node.peer import Peer
from tests.integration.house import House
from tests.pacs import EXPLICIT, IMPLICIT, VERIFICATION, Pacs

pytestmark = pytest.mark.timeout(900)


class Keeper:
    """A PACS that takes reports as some SOP classes and keeps what it has got.

    Parameters
    ----------
    node
        Where it reports commitments, on an association of its own; else it uses that of the
        request.
    """

    def __init__(self, sop_classes: Sequence[str], node: Peer | None = None) -> None:
        self.node = node
        self.answers: list[Any] = []
        self.pacs = Pacs(
            accepts=[
                (VERIFICATION, IMPLICIT), (PUSH_MODEL, IMPLICIT),
                *((uid, EXPLICIT) for uid in sop_classes),
            ],
            handlers=[(evt.EVT_N_ACTION, self._asked)],
        )  # fmt: skip

    def __str__(self) -> str:
        return str(self.pacs.peer)

    def _asked(self, event: Any) -> tuple[int, None]:
        asked = read_request(event.action_information)
        if self.node is None:
            self._tell(event.assoc, *asked)
        else:
            threading.Thread(target=self._call, args=[self.node, *asked], daemon=True).start()
        return 0x0000, None

    def _call(self, node: Peer, transaction_uid: str, references: Sequence[Reference]) -> None:
        entity = AE("PACS")
        entity.add_requested_context(PUSH_MODEL)
        roles = [build_role(PUSH_MODEL, scp_role=True)]  # PS3.7 D.3.3.4
        assoc = entity.associate(node.host, node.port, ae_title=node.ae_title, ext_neg=roles)
        self._tell(assoc, transaction_uid, references)
        assoc.release()

    def _tell(self, assoc: Any, transaction_uid: str, references: Sequence[Reference]) -> None:
        got = {str(report.SOPInstanceUID) for report in self.reports()}
        asked = [reference.sop_instance_uid for reference in references]
        commitment = Commitment(
            transaction_uid,
            tuple(uid for uid in asked if uid in got),
            tuple((uid, 0x0112) for uid in asked if uid not in got),
        )
        status, _ = assoc.send_n_event_report(
            result_dataset(commitment, references), commitment.event_type,
            PUSH_MODEL, PUSH_MODEL_INSTANCE,
        )  # fmt: skip
        self.answers.append(status.get("Status"))

    def reports(self) -> list[Dataset]:
        return [dcmread(BytesIO(data)) for data in list(self.pacs.files)]


@pytest.fixture
def house(
    model_setting: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("commitment")
    house = House(folder / "home", folder / "logs", CXR_DELIVERY_RETRY_S="1", **model_setting)
    with ExitStack() as stack:
        stack.callback(house.kill_all)
        yield house


def test_a_study_is_committed_when_each_destination_has_confirmed_it_in_its_own_way(
    house: House,
) -> None:
    at_once, later = Keeper(REPORT_SOP_CLASSES), Keeper([EnhancedSRStorage], house.node)
    house.env["CXR_DESTINATIONS"] = f"{at_once},{later}"
    house.start_up()
    try:
        study = house.send_study()
        record = house.wait_for_state("COMMITTED", study)[study]
        looked = house.command("doctor").stdout
    finally:
        at_once.pacs.stop()
        later.pacs.stop()
    (told,) = record["reports"]
    (as_made,), (as_enhanced,) = at_once.reports(), later.reports()
    assert as_made.SOPInstanceUID == told["sop_instance_uid"]
    assert as_enhanced.SOPClassUID == EnhancedSRStorage
    assert as_enhanced.SOPInstanceUID != as_made.SOPInstanceUID
    assert as_enhanced.StudyInstanceUID == as_made.StudyInstanceUID == study
    sent = {d["destination"]: d["sop_instance_uid"] for d in told["deliveries"]}
    assert sent == {
        str(at_once): as_made.SOPInstanceUID, str(later): as_enhanced.SOPInstanceUID,
    }  # fmt: skip
    assert (at_once.answers, later.answers) == ([0x0000], [0x0000])
    assert house.command("dead-letters").stdout.strip() == "Nothing was given up."
    assert "takes reports as Comprehensive 3D SR, offers Storage Commitment" in looked
    assert "takes reports as Enhanced SR, offers Storage Commitment" in looked
    house.stop("up")
    assert house.left_over() == []
