"""A decoding child whose decoder does what the instance tells it to (test_decoder_child.py)."""

import os
import signal
import sys
import time

from dicom_node import decoder_child, pixels
from dicom_node.errors import UnsupportedInstance

healthy = pixels.to_pixels


def refuse():
    raise UnsupportedInstance("TOO_LARGE", "The image is too large.", "1.2.3")


FAULTS = {
    "hang": lambda: time.sleep(3600),
    "take time": lambda: time.sleep(5),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "abort": os.abort,
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "take all memory": lambda: bytearray(1 << 45),
    "print": lambda: os.write(1, b"printed by a decoder\n"),
    "refuse": refuse,
    "be asked to end": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "be interrupted": lambda: os.kill(os.getpid(), signal.SIGINT),
}


def to_pixels(ds, side):
    FAULTS.get(str(ds.get("ImageComments", "")), lambda: None)()
    return healthy(ds, side)


if __name__ == "__main__":
    pixels.to_pixels = to_pixels
    decoder_child.serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
