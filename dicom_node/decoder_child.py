"""Decodes in a child process, which can be killed.

Decoders are written in C, C++ and Rust, and what they read comes from anywhere: a few bytes that
are wrong make one run for ever, and may make another crash. So a decoder takes one instance with
it, never the worker. The child is started once and serves many instances.

Parent and child share one piece of memory, which holds the instance on the way there and the image
on the way back. On the pipes go a line with the size of the one and what is wanted of the other,
and a line of JSON about that: nothing that the child says is executed.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import weakref
from io import BytesIO
from typing import TYPE_CHECKING, Any

from dicom_node.errors import InstanceError, InvalidInstance, UnsupportedInstance

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

# Twice what the largest image that is taken needs (dicom_node.pixels.MAX_SAMPLES).
MEMORY_BYTES = 4 << 30
# Shared memory that is kept from instance to instance; a larger image's is given back.
_KEPT_BYTES = 128 << 20
_ENVIRONMENT = {
    # Threads that nobody needs, with a stack each.
    "OPENBLAS_NUM_THREADS": "1",
    # glibc keeps memory for the next instance, which saves a quarter of a decoder's time.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
# The decoder's own doing, so that another try would end alike. All other ends come from outside.
_FAULTS = {
    signal.SIGALRM: "did not end",
    signal.SIGSEGV: "crashed",
    signal.SIGBUS: "crashed",
    signal.SIGABRT: "crashed",
    signal.SIGFPE: "crashed",
    signal.SIGILL: "crashed",
}
_REFUSALS = {kind.__name__: kind for kind in (InvalidInstance, UnsupportedInstance)}
_TRIES = 2
_PROGRAM = "dicom_node.decoder_child"


class DecoderAway(Exception):
    """The child did not start, or was killed by somebody else: says nothing about the instance."""


class Decoder:
    """Decodes instances in a child process, one at a time; starts it when it is first needed.

    Parameters
    ----------
    limit_s : float
        How long decoding one instance may take.
    memory_bytes : int
        How much address space the child may use.
    """

    def __init__(self, limit_s: float = 20.0, memory_bytes: int = MEMORY_BYTES) -> None:
        self._limit_s = limit_s
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def to_pixels(
        self, data: bytes, sop_instance_uid: str | None = None, side: int | None = None
    ) -> Floats:
        """Return what :func:`dicom_node.pixels.to_pixels` makes of a Part 10 file.

        Parameters
        ----------
        data : bytes
            The file.
        sop_instance_uid : str, optional
            To be named in errors and in the log.
        side : int, optional
            Of the square that the image is to be reduced to.

        Raises
        ------
        InstanceError
            As `dicom_node.pixels.to_pixels` does, and when a decoder hangs or crashes.
        DecoderAway
            When the child cannot be started, or is killed by somebody else each time.
        """
        code = 0
        with self._lock:
            for _ in range(_TRIES):
                child = self._running()
                try:
                    return child.ask(data, side)
                except InstanceError:
                    raise
                except EOFError:
                    code = child.end()
                except BaseException:
                    # Its answer must not be taken for that to the next instance.
                    child.process.kill()
                    child.end()
                    raise
                if -code in _FAULTS:
                    break
        raise self._error(code, sop_instance_uid)

    def close(self) -> None:
        """End the child; another one is started when it is needed."""
        with self._lock:
            if self._child is not None:
                self._child.end()

    def _running(self) -> _Child:
        """Return the child, or a new one when it ended since the last instance."""
        if self._child is None or self._child.process.poll() is not None:
            self._child = _Child(self._limit_s, self._memory_bytes)
        return self._child

    def _error(self, code: int, uid: str | None) -> Exception:
        """Say how the child ended."""
        if -code not in _FAULTS:
            return DecoderAway(f"the decoding process ended with {code} each time")
        how = _FAULTS[signal.Signals(-code)]
        if -code == signal.SIGALRM:
            how += f" in {self._limit_s:g} s"
        log.warning("a decoder %s on %s; it was ended and is replaced", how, uid or "an instance")
        return InvalidInstance("UNDECODABLE", f"The image's decoder {how}.", uid)


class _Child:
    """The parent's end of one child process."""

    def __init__(self, limit_s: float, memory_bytes: int) -> None:
        self.memory = os.memfd_create("cxr-worker-decoder")
        weakref.finalize(self, os.close, self.memory)
        command = [sys.executable, "-m", _PROGRAM]
        self.process = subprocess.Popen(  # noqa: S603  our own command
            [*command, str(self.memory), str(limit_s), str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What decoders print there quotes values, and a panic is many lines.
            stderr=subprocess.DEVNULL,
            pass_fds=[self.memory],
            env=os.environ | _ENVIRONMENT,
            bufsize=0,
        )

    def ask(self, data: bytes, side: int | None) -> Floats:
        """Let one instance be decoded, and reduced to a square where a side is given.

        Raises
        ------
        EOFError
            When the child ends instead of answering.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        _write(self.memory, data)
        try:
            self.process.stdin.write(b"%d %d\n" % (len(data), side or 0))
        except BrokenPipeError:
            raise EOFError from None
        answer = self.process.stdout.readline()
        if not answer.endswith(b"\n"):
            raise EOFError
        return self._read(json.loads(answer))

    def _read(self, answer: dict[str, Any]) -> Floats:
        """Take the image out of the shared memory, or raise the error that is there instead."""
        import numpy as np

        if "error" in answer:
            raise _REFUSALS[answer["error"]](*answer["args"])
        pixels = np.empty(answer["shape"], np.float32)
        flat = pixels.data.cast("B")
        if len(flat) > os.fstat(self.memory).st_size:
            raise EOFError
        at = 0
        while at < len(flat):
            at += os.preadv(self.memory, [flat[at:]], at)
        if len(flat) > _KEPT_BYTES:
            os.ftruncate(self.memory, 0)
        return pixels

    def end(self) -> int:
        """Close the pipes, which ends it if it has not ended yet; return how it ended."""
        with self.process:
            pass
        return self.process.returncode


def _write(memory: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    at = 0
    while at < len(view):
        at += os.pwrite(memory, view[at:], at)


def serve(memory: int, limit_s: float, memory_bytes: int) -> None:
    """Answer until the parent closes the pipe, or is gone.

    The alarm's default action is to end this process, in whatever code it is, and whether there
    still is a parent or not. What ends a terminal's or a service's processes all at once is left to
    the parent: it may have instances to finish.
    """
    import dicom_node.pixels  # noqa: F401  now, and not on an instance's time

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # decoders may print
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        size, side = map(int, line.split())
        answer = _answer(memory, size, side or None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _answer(memory: int, size: int, side: int | None) -> dict[str, Any]:
    """Decode what is in the shared memory, and put the image there."""
    import numpy as np
    from pydicom import dcmread

    from dicom_node.pixels import to_pixels

    try:
        pixels = to_pixels(dcmread(BytesIO(os.pread(memory, size, 0))), side)
    except InstanceError as error:
        return {"error": type(error).__name__, "args": error.args}
    except MemoryError:
        args = ("UNDECODABLE", "Decoding the image takes too much memory.", None)
        return {"error": InvalidInstance.__name__, "args": args}
    _write(memory, np.ascontiguousarray(pixels).data)
    return {"shape": pixels.shape}


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
