"""One small picture in every compressed transfer syntax, as data: what a decoder must decode."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A ramp of 8 x 8 pixels, from black to almost white.

    Attributes
    ----------
    bits : int
        Bits Stored.
    tolerance : int
        How far a decoded value may be from the original one; 0 where nothing was lost.
    code_stream : bytes
        The frame.
    """

    bits: int
    tolerance: int
    code_stream: bytes

    def values(self) -> npt.NDArray[np.int64]:
        """Return the original values, (8, 8)."""
        return np.arange(64, dtype=np.int64).reshape(8, 8) << (self.bits - 6)


# Reversible, so that it is one of each of the three syntaxes; made by OpenJPH.
_HTJ2K: Final = Sample(
    12,
    0,
    b64decode(
        "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB"
        "/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAFkAAf+TwAAmu/UFB3QA"
        "AADAABNAABMARv4CB3QAPvIDh3QAwAATQAATgB4eAYJ0AP7ojwDDVADAACogABVAvu/7qnCCdQD++/fvwEIB7LYA/9k="
    ),
)

# Made by pydicom (RLE), libjpeg (baseline), DCMTK (the other JPEG), CharLS and OpenJPEG.
SAMPLES: Final[Mapping[str, Sample]] = MappingProxyType(
    {
        str(RLELossless): Sample(
            12,
            0,
            b64decode(
                "AgAAAEAAAABgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                "AP0A/QH9Av0D/QT9Bf0G/Qf9CP0J/Qr9C/0M/Q39Dv0PBwBAgMAAQIDABwBAgMAAQIDABwBAgMAAQIDABwBA"
                "gMAAQIDABwBAgMAAQIDABwBAgMAAQIDABwBAgMAAQIDABwBAgMAAQIDA"
            ),
        ),
        str(JPEGBaseline8Bit): Sample(
            8,
            4,
            b64decode(
                "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
                "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQH/wAALCAAIAAgBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAEC"
                "AwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAk"
                "M2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJ"
                "ipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3"
                "+Pn6/9oACAEBAAA/AM/4bf8ABtx/x7/8UF/d/wCYb9P+mVf/2Q=="
            ),
        ),
        str(JPEGExtended12Bit): Sample(
            12,
            64,
            b64decode(
                "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
                "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQH/wQALDAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAACf/E"
                "ABwQAAAGAwAAAAAAAAAAAAAAAAALDio3SVZndP/aAAgBAQAAPwA/y3FNxsCsL8arb5taj//Z"
            ),
        ),
        str(JPEGLossless): Sample(
            12,
            0,
            b64decode(
                "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAIAAgBAREA/8QAFwABAQEBAAAAAAAAAAAAAAAACQcKEP/aAAgB"
                "AQAGAADqBQKBQKBQKBoAQBAEAQBAEAQDQAgCAIAgCAIAgGgBAEAQBAEAQBANACAIAgCAIAgCAaAEAQBAEAQB"
                "AEA0AIAgCAIAgCAIBoAQBAEAQBAEAQD//9k="
            ),
        ),
        str(JPEGLosslessSV1): Sample(
            12,
            0,
            b64decode(
                "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAIAAgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAABwoQ/9oACAEB"
                "AAEAAMgICAgICAgUAICAgICAgIFACAgICAgICBQAgICAgICAgUAICAgICAgIFACAgICAgICBQAgICAgICAgU"
                "AICAgICAgIH/2Q=="
            ),
        ),
        str(JPEGLSLossless): Sample(
            12,
            0,
            b64decode(
                "/9j/9wALDAAIAAgBAREA/9oACAEBAAAAAJ/f399e399AACAQH58enh2IAAAQHRycG5san5/zQzMjEwLz4/xc"
                "WlhWVFJ6f0oJyYlJCM8P4REJA/fPTs/bx27dOXJ0/9k="
            ),
        ),
        str(JPEGLSNearLossless): Sample(
            12,
            8,
            b64decode(
                "/9j/9wALDAAIAAgBAREA/9oACAEBAAgAAJ3V3VwABCEYjEIAAIRmIzEeMzMzM8ZkZGZ4yIiIR4iIiYjxMmTE"
                "/9k="
            ),
        ),
        str(JPEG2000Lossless): Sample(
            16,
            0,
            b64decode(
                "/0//UQApAAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1IADAAAAAEAAAQEAAH/XAAE"
                "QID/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAA/AAH/k9/4kWgSKwML"
                "CxPkuS+FPzhQgqEU/1Zxw3N9JM4wvb1yYz7qxGrzTDo5fYsu9leht3//2Q=="
            ),
        ),
        str(JPEG2000): Sample(
            16,
            600,
            b64decode(
                "/0//UQApAAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1IADAAAAAEAAAQEAAD/XAAF"
                "QoAA/2QAJQABQ3JlYXRlZCBieSBPcGVuSlBFRyB2ZXJzaW9uIDIuNS40/5AACgAAAAAAPAAB/5PfeVgSKwML"
                "CxPkuS+FPzhQgqEU/1Zxw3N9JM4wvb1yYz7qxGrzTDo5fYsu9leh/9k="
            ),
        ),
        str(HTJ2KLossless): _HTJ2K,
        str(HTJ2KLosslessRPCL): _HTJ2K,
        str(HTJ2K): _HTJ2K,
    }
)
