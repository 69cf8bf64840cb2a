"""Makes one image deadly: a process that looks at it is killed, as by a crash or for its memory.

Python imports a module of this name at its start, where it finds one on its path.
"""

import os
import signal
from typing import Any

from dicom_node import pixels

MARK = "poison"
_to_pixels = pixels.to_pixels


def to_pixels(ds: Any, side: int | None = None) -> Any:
    if ds.get("ImageComments") == MARK:
        os.kill(os.getpid(), signal.SIGKILL)
    return _to_pixels(ds, side)


pixels.to_pixels = to_pixels
