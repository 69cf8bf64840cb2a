"""Which archive the settings name, and what is told of one in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.archive import MARK, Archive
from dicom_node.errors import ConfigurationError
from dicom_node.object_archive import ObjectArchive
from tests.buckets import BUCKET, CREDENTIALS, S3, s3
from tests.e2e.programs import free_port
from worker import doctor, gauges, health
from worker.database import upgrade
from worker.placing import archive_of
from worker.settings import Settings


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("dicom_node.s3._TRIES", 1)


@pytest.fixture(scope="module")
def store() -> Iterator[S3]:
    with s3() as made:
        made.make_bucket(BUCKET)
        yield made


def settings(home: Path, endpoint: str, **more: str) -> Settings:
    given = {
        "CXR_HOME": str(home),
        "CXR_ARCHIVE": f"s3://{BUCKET}/{home.name}",
        "CXR_S3_ENDPOINT": endpoint,
    }
    return Settings.from_env(given | more)


def test_a_path_is_a_folder_and_a_url_a_bucket(tmp_path: Path) -> None:
    folder = archive_of(Settings.from_env({"CXR_HOME": str(tmp_path)}), 7)
    assert isinstance(folder, Archive)
    assert (folder.place, folder.reserve_bytes) == (str(tmp_path / "archive"), 7)
    bucket = archive_of(settings(tmp_path, "http://localhost:9000/"), 7)
    assert isinstance(bucket, ObjectArchive)
    assert bucket.place == f"s3://{BUCKET}/{tmp_path.name}"
    assert (bucket.spool, bucket.reserve_bytes) == (tmp_path / "spool", 7)
    assert list(tmp_path.iterdir()) == []


def test_the_spool_may_be_elsewhere(tmp_path: Path) -> None:
    told = settings(tmp_path, "", CXR_SPOOL=str(tmp_path / "fast"))
    assert told.spool_path == tmp_path / "fast"


def test_what_is_not_installed_is_named_with_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.s3.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="CXR_ARCHIVE") as told:
        archive_of(settings(tmp_path, "http://localhost:1"))
    assert "install cxr-worker[s3]" in str(told.value)


def test_a_bucket_is_looked_at_by_the_doctor_and_by_readyz(store: S3, tmp_path: Path) -> None:
    told = settings(tmp_path, store.endpoint)
    upgrade(told.database_url)
    found = doctor._archive(told)
    assert f"s3://{BUCKET}/{tmp_path.name}, " in found.found
    assert f"free in {tmp_path / 'spool'}" in found.found
    assert not health.check_archive(told).healthy
    archive_of(told).make()
    assert health.check_archive(told).healthy
    assert health.check_room(told).healthy
    ours = [key for key in store.listed() if key.startswith(f"{tmp_path.name}/")]
    assert ours == [f"{tmp_path.name}/{MARK}"]


def test_a_store_that_is_away_is_told_by_the_doctor_and_by_readyz(tmp_path: Path) -> None:
    told = settings(tmp_path, f"http://127.0.0.1:{free_port()}")
    upgrade(told.database_url)
    assert "object store" in doctor._archive(told).found
    assert "the store answers" in health.check_archive(told).advice


def test_no_free_space_is_told_of_a_bucket(store: S3, tmp_path: Path) -> None:
    told = settings(tmp_path, store.endpoint)
    archive_of(told).make()
    with pytest.raises(FileNotFoundError):
        gauges._disk_of(told)
