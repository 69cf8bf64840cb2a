"""A decoder that hangs or crashes takes one instance with it, never the worker."""

import logging
import os
import signal
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom import dcmread

from dicom_node import decoder_child
from dicom_node.decoder_child import Decoder, DecoderAway
from dicom_node.errors import InvalidInstance, UnsupportedInstance
from dicom_node.pixels import to_pixels
from tests.datasets import image, part10
from tests.unit.dicom_node.test_contexts import INSTANCES

ROOT = Path(__file__).parents[3]
LONG_S, SHORT_S = 600, 0.2


def instance(comment="", **attributes):
    return part10(image(ImageComments=comment, **attributes))


@pytest.fixture(scope="module")
def decoder():
    """One for all tests, as a child takes a while to start; healthy where no comment says else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_child, "_PROGRAM", "tests.unit.dicom_node.faulty_decoder")
        decoder = Decoder(LONG_S)
        yield decoder
        decoder.close()


@pytest.fixture
def impatient(decoder):
    """The same, with a time limit for its next child."""
    decoder.close()
    decoder._limit_s = SHORT_S
    yield decoder
    decoder.close()
    decoder._limit_s = LONG_S


def child_of(decoder):
    return psutil.Process(decoder._child.process.pid)


def test_every_transfer_syntax_is_decoded_as_in_this_process(decoder):
    for make in INSTANCES.values():
        data = part10(make())
        np.testing.assert_array_equal(decoder.to_pixels(data), to_pixels(dcmread(BytesIO(data))))


def test_an_image_comes_reduced_where_that_is_wanted(decoder):
    for make in INSTANCES.values():
        data = part10(make())
        expected = to_pixels(dcmread(BytesIO(data)), 16)
        assert expected.shape == (16, 16)
        np.testing.assert_array_equal(decoder.to_pixels(data, side=16), expected)


def test_one_child_decodes_many_instances(decoder):
    decoder.to_pixels(instance())
    first = child_of(decoder)
    for side in (3, 300, 4):
        pixels = decoder.to_pixels(part10(image(np.full((side, side), 7, np.uint16))))
        assert pixels.shape == (side, side)
    assert child_of(decoder) == first


def test_an_image_stays_as_it_is_when_the_next_one_comes(decoder):
    ramp = decoder.to_pixels(instance())
    before = ramp.copy()
    decoder.to_pixels(part10(image(np.array([[9, 1], [1, 9]], np.uint16))))
    np.testing.assert_array_equal(ramp, before)


def test_a_large_image_comes_whole_and_its_memory_is_given_back(decoder, monkeypatch):
    monkeypatch.setattr(decoder_child, "_KEPT_BYTES", 1 << 20)
    large = np.arange(1024 * 1024, dtype=np.uint32).reshape(1024, 1024).astype(np.uint16)
    np.testing.assert_array_equal(decoder.to_pixels(part10(image(large))), to_pixels(image(large)))
    assert os.fstat(decoder._child.memory).st_size == 0


def test_what_an_instance_is_refused_for_is_told_by_the_parent_too(decoder):
    with pytest.raises(UnsupportedInstance) as error:
        decoder.to_pixels(instance("refuse"))
    assert error.value.args == ("TOO_LARGE", "The image is too large.", "1.2.3")


def undecodable(decoder, fault, caplog):
    """Let an instance be undecodable; return what was logged."""
    with pytest.raises(InvalidInstance) as error, caplog.at_level(logging.WARNING):
        decoder.to_pixels(instance(fault), "1.2.3")
    assert (error.value.reason, error.value.sop_instance_uid) == ("UNDECODABLE", "1.2.3")
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("fault", ["crash", "abort"])
def test_a_decoder_that_crashes_is_one_undecodable_instance(decoder, caplog, fault):
    line = "a decoder crashed on 1.2.3; it was ended and is replaced"
    assert undecodable(decoder, fault, caplog) == [line]
    assert decoder.to_pixels(instance()).shape == (8, 8)


def test_a_decoder_that_hangs_is_one_undecodable_instance(impatient, caplog):
    line = "a decoder did not end in 0.2 s on 1.2.3; it was ended and is replaced"
    assert undecodable(impatient, "hang", caplog) == [line]
    impatient._limit_s = LONG_S
    assert impatient.to_pixels(instance()).shape == (8, 8)


def test_a_decoder_that_takes_all_memory_is_an_undecodable_instance(decoder):
    with pytest.raises(InvalidInstance) as error:
        decoder.to_pixels(instance("take all memory"))
    assert error.value.reason == "UNDECODABLE"
    assert decoder.to_pixels(instance()).shape == (8, 8)


@pytest.mark.parametrize("fault", ["print", "be asked to end", "be interrupted"])
def test_what_a_decoder_prints_and_signals_to_everybody_do_no_harm(decoder, fault):
    assert decoder.to_pixels(instance(fault)).shape == (8, 8)
    assert decoder.to_pixels(instance()).shape == (8, 8)


@pytest.mark.parametrize("fault", ["is killed", "exit"])
def test_a_child_that_somebody_else_ended_says_nothing_about_the_instance(decoder, fault):
    with pytest.raises(DecoderAway):
        decoder.to_pixels(instance(fault))
    assert decoder.to_pixels(instance()).shape == (8, 8)


def test_a_child_that_is_killed_between_two_instances_is_replaced(decoder):
    decoder.to_pixels(instance())
    child = child_of(decoder)
    child.send_signal(signal.SIGKILL)
    assert decoder.to_pixels(instance()).shape == (8, 8)
    assert child_of(decoder) != child


def test_a_child_that_is_killed_while_it_decodes_is_asked_again(decoder, monkeypatch):
    ask, children = decoder_child._Child.ask, []

    def killed_once(child, *asked):
        children.append(child)
        if len(children) == 1:
            child.process.kill()
        return ask(child, *asked)

    monkeypatch.setattr(decoder_child._Child, "ask", killed_once)
    assert decoder.to_pixels(instance()).shape == (8, 8)
    assert len(children) == 2


def test_an_answer_that_nobody_waited_for_is_not_that_to_the_next_instance(decoder, monkeypatch):
    class Interrupted(BaseException):
        pass

    def interrupted(*_):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(decoder_child._Child, "_read", interrupted)
        with pytest.raises(Interrupted):
            decoder.to_pixels(part10(image(np.zeros((5, 5), np.uint16))))
    assert decoder.to_pixels(instance()).shape == (8, 8)


def test_threads_take_turns(decoder):
    images = [np.full((40, side), 7, np.uint16) for side in range(1, 9)]
    shapes = {}

    def decode(pixels):
        shapes[pixels.shape] = decoder.to_pixels(part10(image(pixels))).shape

    threads = [threading.Thread(target=decode, args=(pixels,)) for pixels in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == {pixels.shape: pixels.shape for pixels in images}


@pytest.mark.parametrize("comment", [None, "hang"])
def test_a_child_ends_when_its_parent_is_killed(comment):
    """Idle, it sees the pipe end; in the middle of an instance, its time runs out."""
    program = f"""
import time
from dicom_node import decoder_child
from tests.datasets import image, part10
decoder_child._PROGRAM = "tests.unit.dicom_node.faulty_decoder"
decoder = decoder_child.Decoder(0.5)
print(decoder._running().process.pid, flush=True)
if {comment!r}:
    decoder.to_pixels(part10(image(ImageComments={comment!r})))
time.sleep(3600)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait()


def test_the_child_does_without_tensorflow():
    code = "import dicom_node.decoder_child, dicom_node.pixels, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras", "celery", "sqlalchemy"} & set(done.stdout.split())


def test_the_parent_imports_no_decoder_before_it_is_needed():
    code = "import dicom_node.decoder_child, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
