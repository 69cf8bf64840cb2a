"""Answers to C-STORE requests, held against those of the library."""

import pytest
from pydicom.tag import Tag
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE

from dicom_node import answer
from tests.datasets import image
from tests.nodes import Node
from tests.wire import AC, P_DATA, request, store, wired

CLASS, INSTANCE = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.4"


def response(**attributes):
    made = C_STORE()
    made.MessageIDBeingRespondedTo = 7
    made.AffectedSOPClassUID, made.AffectedSOPInstanceUID, made.Status = CLASS, INSTANCE, 0x0000
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def by_the_library(primitive):
    message = C_STORE_RSP()
    message.primitive_to_message(primitive)
    (values,) = message.encode_msg(1, 0)
    return values.presentation_data_value_list[0][1]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"MessageIDBeingRespondedTo": 65535},
        {"AffectedSOPInstanceUID": "1.2.3.45"},
        {"Status": 0xA700, "ErrorComment": "The archive cannot take the instance now"},
        {"Status": 0xC000, "ErrorComment": "odd"},
    ],
)
def test_an_answer_is_the_one_that_the_library_encodes(attributes):
    ours = answer.encode(response(**attributes))
    assert b"\x03" + ours == by_the_library(response(**attributes))


def test_what_has_more_to_say_and_requests_are_left_to_the_library():
    assert answer.encode(response(OffendingElement=[Tag(0x00100010)])) is None
    request = response(MessageIDBeingRespondedTo=None)
    request.MessageID = 1
    assert answer.encode(request) is None


def test_an_answer_longer_than_the_peer_takes_comes_in_parts(tmp_path):
    node = Node(tmp_path)
    try:
        with wired(node.running.port) as wire:
            wire.send(request(maximum=64))
            assert wire.read()[0] == AC
            wire.send(*store(image()))
            command, header = b"", 0
            while not header & 2:
                kind, body = wire.read()
                assert kind == P_DATA
                assert len(body) <= 64
                header = body[5]
                command += body[6:]
            assert command == answer.encode(
                response(
                    MessageIDBeingRespondedTo=1,
                    AffectedSOPClassUID=image().SOPClassUID,
                    AffectedSOPInstanceUID=image().SOPInstanceUID,
                )
            )
    finally:
        node.running.shutdown(0, 5)
