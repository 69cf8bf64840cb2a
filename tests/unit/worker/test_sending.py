"""Sending as a modality: one association a study, pictures wrapped, nothing dropped silently."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt

from dicom_node.contexts import STORAGE_SOP_CLASSES
from dicom_node.errors import ConfigurationError, InstanceError, PeerError
from tests import datasets
from tests.certificates import Authority
from tests.fakes import new_uid
from worker import composition, sending
from worker.sending import Wrapping
from worker.settings import Settings

PLAIN = Wrapping()


def write(folder: Path, name: str, ds: Dataset | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if ds is not None:
        path.write_bytes(datasets.part10(ds))
    elif path.suffix in (".png", ".jpg", ".jpeg"):
        Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(path)
    else:
        path.write_text("no image")
    return path


def image(study: str) -> Dataset:
    return datasets.image(StudyInstanceUID=study, SOPInstanceUID=new_uid())


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_folders_are_searched_and_hidden_files_left(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.png", ".hidden.png", "a/.DS_Store", ".cache/d.png", "a/.x/e.png"):
        write(tmp_path, name)
    assert names(sending.find_files([tmp_path])) == ["c.png", "b.png"]


def test_a_file_in_a_hidden_place_is_found_when_it_is_below_what_was_named(tmp_path: Path) -> None:
    path = write(tmp_path / ".private", "a.png")
    assert sending.find_files([path.parent]) == [path]


def test_files_that_are_named_come_in_their_order(tmp_path: Path) -> None:
    paths = [write(tmp_path, name) for name in ("z.png", "a.png")]
    assert sending.find_files(paths) == paths


def test_files_of_one_study_are_one_group(tmp_path: Path) -> None:
    first, second = new_uid(), new_uid()
    for number, study in enumerate((first, second, first)):
        write(tmp_path, f"{number}.dcm", image(study))
    groups = sending.studies(sending.find_files([tmp_path]), PLAIN, pytest.fail)
    assert [names(group) for group in groups] == [["0.dcm", "2.dcm"], ["1.dcm"]]


def test_each_picture_is_a_study_of_its_own(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", "c.jpeg"):
        write(tmp_path, name.lower()).rename(tmp_path / name)
    groups = sending.studies(sending.find_files([tmp_path]), PLAIN, pytest.fail)
    assert [names(group) for group in groups] == [["a.png"], ["b.JPG"], ["c.jpeg"]]


def test_pictures_of_one_study_are_one_group(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path, name)
    wrapping = Wrapping(study_instance_uid=new_uid())
    groups = sending.studies(sending.find_files([tmp_path]), wrapping, pytest.fail)
    assert [names(group) for group in groups] == [["a.png", "b.png"]]
    wrapped = list(sending.instances(groups[0], wrapping))
    assert {str(ds.StudyInstanceUID) for ds in wrapped} == {wrapping.study_instance_uid}  # type: ignore[union-attr]
    assert len({str(ds.SOPInstanceUID) for ds in wrapped}) == 2  # type: ignore[union-attr]


def test_what_is_no_image_is_reported(tmp_path: Path) -> None:
    skipped: list[Path] = []
    paths = [write(tmp_path, "notes.txt"), write(tmp_path, "a.dcm", image(new_uid()))]
    assert len(sending.studies(paths, PLAIN, skipped.append)) == 1
    assert names(skipped) == ["notes.txt"]


def test_an_index_of_media_is_no_instance(tmp_path: Path) -> None:
    index = write(tmp_path, "DICOMDIR", image("1.2.3"))
    skipped: list[Path] = []
    assert sending.studies([index], PLAIN, skipped.append) == []
    assert skipped == [index]


def test_dicom_is_recognised_by_its_content(tmp_path: Path) -> None:
    assert sending.is_dicom(write(tmp_path, "IM0001", image(new_uid())))
    assert not sending.is_dicom(write(tmp_path, "empty.dcm"))


def test_dicom_files_go_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path, "a.dcm", image(new_uid()))
    assert list(sending.instances([path], PLAIN)) == [path]


def test_a_picture_says_what_it_was_told_to_say(tmp_path: Path) -> None:
    wrapping = Wrapping(patient_age="003Y", view_position="AP")
    (ds,) = sending.instances([write(tmp_path, "a.png")], wrapping)
    assert isinstance(ds, Dataset)
    assert (ds.PatientAge, ds.ViewPosition, ds.Modality) == ("003Y", "AP", "DX")


@pytest.mark.parametrize("wrapping", [Wrapping(patient_age="three"), Wrapping(view_position="up?")])
def test_a_wrong_age_or_view_is_refused(tmp_path: Path, wrapping: Wrapping) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        list(sending.instances([write(tmp_path, "a.png")], wrapping))


def test_a_picture_that_cannot_be_read_is_an_instance_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    with pytest.raises(InstanceError):
        list(sending.instances([path], PLAIN))


# --- over the network ------------------------------------------------------------------------


class Store:
    """A Storage SCP that notes which instances came by which association."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.status = 0x0000
        self.by_association: dict[int, list[Dataset]] = {}
        self.callers: set[str] = set()
        entity = AE("STORE")
        for sop_class in STORAGE_SOP_CLASSES:
            entity.add_supported_context(sop_class)
        self.server = entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            ssl_context=tls,
            evt_handlers=[(evt.EVT_C_STORE, self._store)],
        )
        self.address = f"STORE@127.0.0.1:{self.server.server_address[1]}"

    def _store(self, event: Any) -> int:
        ds = dcmread(BytesIO(event.encoded_dataset()))
        self.by_association.setdefault(id(event.assoc), []).append(ds)
        self.callers.add(event.assoc.requestor.ae_title)
        return self.status

    def studies(self) -> list[set[str]]:
        several = self.by_association.values()
        return [{str(ds.StudyInstanceUID) for ds in datasets} for datasets in several]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.server.shutdown()


def test_each_study_has_an_association_of_its_own(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studies = [new_uid(), new_uid()]
    for number in range(4):
        write(tmp_path, f"{number}.dcm", image(studies[number % 2]))
    write(tmp_path, "picture.png")
    assert sending.send_all([tmp_path], store.address, "CALLER", PLAIN, one_study=False)
    assert sorted(map(len, store.studies())) == [1, 1, 1]
    assert sorted(map(len, store.by_association.values())) == [1, 2, 2]
    assert store.callers == {"CALLER"}
    assert "5 instances in 3 studies stored by STORE@" in capsys.readouterr().out


def test_one_study_puts_all_pictures_together(store: Store, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path, name)
    assert sending.send_all([tmp_path], store.address, "CALLER", PLAIN, one_study=True)
    assert [len(study) for study in store.studies()] == [1]


def test_what_is_refused_is_told_and_fails(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.status = 0xC000
    ds = image(new_uid())
    path = write(tmp_path, "a.dcm", ds)
    assert not sending.send_all([path], store.address, "CALLER", PLAIN, one_study=False)
    captured = capsys.readouterr()
    assert f"refused: {ds.SOPInstanceUID}" in captured.err
    assert "0 instances" in captured.out
    assert "1 refused" in captured.out


def test_what_is_skipped_or_unreadable_is_told_and_the_rest_is_sent(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "a.dcm", image(new_uid()))
    write(tmp_path, "[notes].txt")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    assert not sending.send_all([tmp_path], store.address, "CALLER", PLAIN, one_study=False)
    err = capsys.readouterr().err.replace("\n", "")
    assert "skipped: " in err
    assert "[notes].txt" in err
    assert "broken.png" in err
    assert len(store.by_association) == 1


def test_nothing_to_send_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    write(tmp_path, "notes.txt")
    with pytest.raises(ConfigurationError, match="PATH"):
        sending.send_all([tmp_path], "A@127.0.0.1:104", "CALLER", PLAIN, one_study=False)


@pytest.mark.parametrize("address", ["nonsense", "A@h", "A@h:0"])
def test_a_wrong_address_is_a_mistake_of_the_caller(tmp_path: Path, address: str) -> None:
    path = write(tmp_path, "a.png")
    with pytest.raises(ConfigurationError, match="--to"):
        sending.send_all([path], address, "CALLER", PLAIN, one_study=False)


def test_a_peer_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path, "a.png")
    with pytest.raises(PeerError, match="nothing listens"):
        sending.send_all([path], "A@127.0.0.1:1", "CALLER", PLAIN, one_study=False)


def test_tls_is_spoken_to_who_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(tmp_path / "authority")
    files = authority.issue("modality")
    ours = Settings(
        tls_certificate=files.certificate, tls_key=files.key, tls_authority=files.authority
    )
    monkeypatch.setattr(composition, "settings", lambda: ours)
    store = Store(authority.server())
    path = write(tmp_path, "a.png")
    try:
        to = f"{store.address}?tls=on"
        assert sending.send_all([path], to, "CALLER", PLAIN, one_study=False)
    finally:
        store.server.shutdown()
    assert len(store.by_association) == 1


def test_tls_without_certificates_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composition, "settings", Settings)
    path = write(tmp_path, "a.png")
    with pytest.raises(ConfigurationError, match=r"--to: .* needs CXR_TLS_CERTIFICATE"):
        sending.send_all([path], "A@127.0.0.1:104?tls=on", "CALLER", PLAIN, one_study=False)
