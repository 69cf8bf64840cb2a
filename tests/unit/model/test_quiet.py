"""Only TensorFlow's greeting is kept from stderr."""

from __future__ import annotations

import os

from model.quiet import without_greeting


def test_the_greeting_is_dropped_and_everything_else_is_passed_on(capfd):
    with without_greeting():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog()\n")
        os.write(2, b"I0000 00:00:17 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"a true message\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "a true message\nafterwards\n"
