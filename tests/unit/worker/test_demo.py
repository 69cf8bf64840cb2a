"""The demo's folder and its bookkeeping; the run itself is told by the integration tests."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from worker import demo


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.txt"
    thesis.touch()
    with pytest.raises(ConfigurationError, match="not empty"):
        demo._make_room(tmp_path)
    assert thesis.exists()


def test_the_folder_of_an_earlier_demo_is_emptied(tmp_path: Path) -> None:
    out = tmp_path / "demo-out"
    demo._make_room(out)
    (out / "001-1.png").touch()
    demo._make_room(out)
    assert [path.name for path in out.iterdir()] == [demo.MARK]


def test_each_study_can_be_traced_to_its_file(tmp_path: Path) -> None:
    studies = [demo.DemoStudy("study-001", [Path("a.png"), Path("b.png")])]
    demo._list_sources(studies, tmp_path / "studies.csv")
    with (tmp_path / "studies.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["a.png", "b.png"]
