"""What the lines of a log are about ends with the block, and stays in its thread."""

from __future__ import annotations

import threading

import pytest

from dicom_node.correlation import about, also_about, fields


def test_nothing_is_about_anything_at_first() -> None:
    assert fields() == {}


def test_fields_add_up_and_end_with_their_block() -> None:
    with about(association_id="a"):
        with about(study_instance_uid="1.2"):
            assert fields() == {"association_id": "a", "study_instance_uid": "1.2"}
        assert fields() == {"association_id": "a"}
    assert fields() == {}


def test_what_is_found_out_within_a_block_ends_with_it() -> None:
    with about():
        also_about(study_instance_uid="1.2")
        also_about(destination="PACS@h:1")
        assert fields() == {"study_instance_uid": "1.2", "destination": "PACS@h:1"}
    assert fields() == {}


def test_a_block_that_fails_ends_too() -> None:
    with pytest.raises(ValueError, match="no"), about(association_id="a"):
        raise ValueError("no")
    assert fields() == {}


def test_another_thread_is_about_nothing_of_it() -> None:
    seen = []
    with about(association_id="a"):
        thread = threading.Thread(target=lambda: seen.append(dict(fields())))
        thread.start()
        thread.join()
    assert seen == [{}]
