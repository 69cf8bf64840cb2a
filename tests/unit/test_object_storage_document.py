"""docs/object-storage.md says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from dicom_node import s3
from dicom_node.archive import MARK
from dicom_node.incoming import IN_MEMORY
from dicom_node.objects import MOST_BYTES
from dicom_node.remote import START, WINDOW
from worker import measuring, removing
from worker.settings_objects import ObjectSettings

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "object-storage.md").read_text()


def test_every_setting_of_a_bucket_is_in_the_table() -> None:
    described = set(re.findall(r"^\| `(CXR_\w+)` \|", TEXT, flags=re.MULTILINE))
    assert {f"CXR_{name.upper()}" for name in ObjectSettings.model_fields} <= described


def test_limits_are_those_of_the_code() -> None:
    assert f"`{MARK}`" in TEXT
    assert f"over {IN_MEMORY >> 20} MiB" in TEXT
    assert f"{MOST_BYTES >> 30} GiB" in TEXT
    assert s3._TRIES == 3
    assert f"three tries of {s3._READ_S} s" in TEXT
    assert f"beginning first ({START >> 10} KiB)" in TEXT
    assert f"windows of {WINDOW >> 20} MiB" in TEXT
    assert f"after a few files or {removing.HELD_S:.0f} s" in TEXT
    assert f"not answered within {removing.ANSWER_S:.0f} s" in TEXT
    assert measuring.LISTED_EVERY.days == 1
    assert "once a day" in TEXT


def test_the_rights_are_a_right_policy() -> None:
    (shown,) = re.findall(r"^```json\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    actions = [each["Action"] for each in json.loads(shown)["Statement"]]
    assert actions == [["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], "s3:ListBucket"]
