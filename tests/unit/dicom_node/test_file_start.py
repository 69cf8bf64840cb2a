"""The beginning of a file, held against the library's."""

from io import BytesIO

import pytest
from pydicom import dcmread
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from dicom_node.incoming import StoreEvent
from tests.datasets import image, part10

CLASS = "1.2.840.10008.5.1.4.1.1.1.1"


@pytest.mark.parametrize("uid", ["1.2.3.4", "1.2.3.45", "2.25." + "1" * 39])
@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50"]
)
def test_a_file_is_put_together_as_the_library_does(uid, syntax):
    request = C_STORE()
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CLASS, uid
    request.DataSet = BytesIO(b"the data set")
    context = build_context(CLASS, syntax)
    context.context_id = 1
    theirs = Event(None, evt.EVT_C_STORE, {"request": request, "context": context.as_tuple})
    ours = StoreEvent(theirs).encoded_dataset()
    assert ours == theirs.encoded_dataset()


def test_what_is_put_together_can_be_read():
    whole = dcmread(BytesIO(part10(image())))
    request = C_STORE()
    request.AffectedSOPClassUID = whole.SOPClassUID
    request.AffectedSOPInstanceUID = whole.SOPInstanceUID
    data = part10(image())
    request.DataSet = BytesIO(data[144 + int.from_bytes(data[140:144], "little") :])
    context = build_context(whole.SOPClassUID, whole.file_meta.TransferSyntaxUID)
    context.context_id = 1
    event = Event(None, evt.EVT_C_STORE, {"request": request, "context": context.as_tuple})
    event._assoc = None
    assert dcmread(BytesIO(StoreEvent(event).encoded_dataset())) == whole
