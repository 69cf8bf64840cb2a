"""Modalities that send as fast as they are let: messages are made beforehand and written as bytes.

python -m benchmarks.client HOST:PORT CALLED_AE_TITLE --senders 20 --objects 10 --side 194

So what is measured is the node that receives. Prints one line of JSON: the seconds from the first
C-STORE request to the last response, and how many objects were stored.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import threading
import time
from io import BytesIO

from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from benchmarks import memory
from benchmarks.objects import Radiograph, radiographs
from dicom_node.entity import IMPLEMENTATION_CLASS_UID

# What DCMTK's clients send at most (PS3.8 D.1: the peer may ask for less).
LARGEST_PDU = 131072
_AC, _P_DATA = 0x02, 0x04
_RELEASE_RQ = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
_STATUS = b"\x00\x00\x00\x09\x02\x00\x00\x00"  # (0000,0900), two bytes long


class Sender:
    """One association that sends radiographs."""

    def __init__(self, host: str, port: int, called: str, largest_pdu: int, syntax: str) -> None:
        self._connection = socket.create_connection((host, port), timeout=120)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(_request(called, syntax))
        kind, body = self._read()
        if kind != _AC:
            raise ConnectionError(f"the association was not accepted: PDU type {kind}")
        accepted = A_ASSOCIATE_AC()
        accepted.decode(struct.pack(">BxL", kind, len(body)) + body)
        most = accepted.user_information.maximum_length
        self._pdu = min(most or largest_pdu, largest_pdu)
        self._messages: list[bytes] = []

    def prepare(self, instances: list[Radiograph]) -> None:
        """Make the messages."""
        self._messages = [_message(instance, self._pdu) for instance in instances]

    def send(self) -> int:
        """Send one after the other; count what was stored."""
        stored = 0
        for message in self._messages:
            self._connection.sendall(message)
            kind, body = self._read()
            at = body.index(_STATUS) + len(_STATUS) if kind == _P_DATA else 0
            stored += kind == _P_DATA and body[at : at + 2] == b"\0\0"
        return stored

    def release(self) -> None:
        """End the association."""
        self._connection.sendall(_RELEASE_RQ)
        self._read()
        self._connection.close()

    def _read(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self._connection.recv(size - len(data))
            if not more:
                raise ConnectionError("the peer hung up")
            data += more
        return bytes(data)


def _request(called: str, syntax: str) -> bytes:
    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = "BENCHMARK", called
    context = build_context(DigitalXRayImageStorageForPresentation, syntax)
    context.context_id = 1
    asked.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    asked.user_information = [length, implementation]
    encoded: bytes = A_ASSOCIATE_RQ(asked).encode()
    return encoded


def _message(instance: Radiograph, largest_pdu: int) -> bytes:
    """Make the PDUs of a C-STORE request."""
    ask = C_STORE()
    ask.MessageID, ask.Priority = 1, 2
    ask.AffectedSOPClassUID = DigitalXRayImageStorageForPresentation
    ask.AffectedSOPInstanceUID = instance.sop_instance_uid
    ask.DataSet = BytesIO(instance.data_set)
    message = C_STORE_RQ()
    message.primitive_to_message(ask)
    return b"".join(P_DATA_TF(part).encode() for part in message.encode_msg(1, largest_pdu))


def run(
    host: str,
    port: int,
    called: str,
    batches: list[list[Radiograph]],
    largest_pdu: int = LARGEST_PDU,
    syntax: str = str(ExplicitVRLittleEndian),
) -> tuple[float, int]:
    """Send batches at once, each by an association of its own; give seconds and what was stored."""
    senders = [Sender(host, port, called, largest_pdu, syntax) for _ in batches]
    for sender, batch in zip(senders, batches, strict=True):
        sender.prepare(batch)
    stored = [0] * len(senders)
    ready = threading.Barrier(len(senders) + 1)

    def send(number: int) -> None:
        ready.wait()
        stored[number] = senders[number].send()

    threads = [threading.Thread(target=send, args=(n,)) for n in range(len(senders))]
    for thread in threads:
        thread.start()
    ready.wait()
    started = time.monotonic()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - started
    for sender in senders:
        sender.release()
    return seconds, sum(stored)


def main() -> None:
    """Send."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client")
    parser.add_argument("address")
    parser.add_argument("called")
    parser.add_argument("--senders", type=int, default=1)
    parser.add_argument("--objects", type=int, default=10, help="of each sender")
    parser.add_argument("--side", type=int, default=194, help="of the square images, in pixels")
    parser.add_argument("--first", type=int, default=1, help="number of the first object")
    parser.add_argument("--pdu", type=int, default=LARGEST_PDU, help="largest PDU that is sent")
    options = parser.parse_args()
    host, _, port = options.address.rpartition(":")
    each = options.objects
    batches = [
        radiographs(each, options.side, first=options.first + number * each)
        for number in range(options.senders)
    ]
    memory.touch()
    seconds, stored = run(host, int(port), options.called, batches, options.pdu)
    size = len(batches[0][0].data_set)
    print(json.dumps({"seconds": seconds, "stored": stored, "bytes": stored * size}))


if __name__ == "__main__":
    main()
