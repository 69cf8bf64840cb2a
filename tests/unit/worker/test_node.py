"""The node's callbacks: commit first, then ring; never ring for what was not entered."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import Archive
from dicom_node.commitment import Commitment
from dicom_node.errors import ConfigurationError
from dicom_node.storage_scp import Outcome
from dicom_node.storage_scu import Peer, echo, send
from tests import datasets
from tests.certificates import Authority
from tests.fakes import NOON, Bells, new_uid, received
from tests.ledgers import Desk
from worker import node
from worker.desk import Bell
from worker.settings import Settings
from worker.states import JobKind
from worker.tables import Instance, Job, Reception


@pytest.fixture
def desk(sqlite_sessions: sessionmaker[Session]) -> Desk:
    return Desk(sqlite_sessions)


def test_an_instance_is_committed_before_its_bell_rings(desk: Desk) -> None:
    seen: list[int] = []
    record = node.recorder(desk.sessions, 2, lambda *_: seen.append(len(desk.all(Instance))))
    assert record(received()) is Outcome.STORED
    assert seen == [1]


def test_duplicates_and_conflicts_ring_nothing(desk: Desk) -> None:
    bells, facts = Bells(), received(sop_instance_uid="1.2.3", study_instance_uid="1.2")
    record = node.recorder(desk.sessions, 2, bells)
    record(facts)
    bells.rung.clear()
    assert record(facts) is Outcome.DUPLICATE
    other = received(sop_instance_uid="1.2.3", study_instance_uid="1.2", sha256="0" * 64)
    assert record(other) is Outcome.CONFLICT
    assert bells.rung == []


def test_a_file_that_was_removed_before_its_row_was_there_is_to_be_stored_again(
    desk: Desk,
) -> None:
    there, rows = [False, True], list[int]()

    def stays(_: str) -> bool:
        rows.append(len(desk.all(Instance)))
        return there.pop(0)

    facts = received(sop_instance_uid="1.2.3", study_instance_uid="1.2")
    record = node.recorder(desk.sessions, 2, Bells(), stays=stays)
    assert [record(facts), record(facts)] == [Outcome.VANISHED, Outcome.DUPLICATE]
    assert rows == [1, 1]


def test_a_database_that_fails_makes_the_record_fail_and_rings_nothing() -> None:
    def sessions() -> Session:
        raise OperationalError("INSERT", {}, OSError())

    bells = Bells()
    with pytest.raises(OperationalError):
        node.recorder(sessions, 2, bells)(received())
    assert bells.rung == []


def test_a_commit_that_fails_makes_the_record_fail_and_rings_nothing(desk: Desk) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("COMMIT", {}, OSError())

    def sessions() -> Session:
        session = desk.sessions()
        event.listen(session, "before_commit", fail)
        return session

    bells = Bells()
    with pytest.raises(OperationalError):
        node.recorder(sessions, 2, bells)(received())
    assert bells.rung == []
    assert not desk.all(Instance)


def test_the_quiet_time_decides_when_the_report_is_due(desk: Desk) -> None:
    node.recorder(desk.sessions, 7.5, Bells())(received())
    due = {job.kind: job.due_at for job in desk.all(Job)}
    assert due[JobKind.REPORT] == NOON + timedelta(seconds=7.5)


def test_the_end_of_an_association_rings_for_when_its_studies_were_quiet(desk: Desk) -> None:
    bells = Bells()
    node.recorder(desk.sessions, 2, Bells())(received(association_id="a"))
    node.closer(desk.sessions, bells)("a")
    assert bells.rung == [Bell(JobKind.REPORT)]
    assert bells.times[0] is not None
    assert timedelta(0) < bells.times[0] - (NOON + timedelta(seconds=2)) < timedelta(seconds=1)
    assert not desk.all(Reception)


def test_the_end_of_an_association_that_brought_nothing_rings_nothing(desk: Desk) -> None:
    bells = Bells()
    node.closer(desk.sessions, bells)("unknown")
    assert bells.rung == []


# --- with a real association -----------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env({
        "CXR_HOME": str(tmp_path), "CXR_PORT": "0", "CXR_BIND": "127.0.0.1",
        "CXR_ALLOWED_AE_TITLES": "MODALITY",
    })  # fmt: skip


def test_what_a_modality_sends_is_entered_and_its_association_forgotten(
    desk: Desk, settings: Settings, tmp_path: Path
) -> None:
    bells, study = Bells(), new_uid()
    images = [
        datasets.image(StudyInstanceUID=study, SOPInstanceUID=f"{study}.{n}") for n in range(3)
    ]
    running = node.start(settings, Archive(tmp_path / "archive"), desk.sessions, bells)
    try:
        peer = Peer("CXRWORKER", "127.0.0.1", running.port)
        echo(peer, "MODALITY")
        assert [sent.status for sent in send(images, peer, "MODALITY")] == [0, 0, 0]
    finally:
        running.shutdown()
    assert len(desk.all(Instance)) == 3
    assert bells.rung == [*[Bell(JobKind.CLASSIFY)] * 3, Bell(JobKind.REPORT)]
    assert not desk.all(Reception)


def test_a_database_that_is_away_is_answered_with_a700_and_nothing_is_lost(
    desk: Desk, settings: Settings, tmp_path: Path
) -> None:
    away = True

    def sessions() -> Session:
        if away:
            raise OperationalError("INSERT", {}, OSError())
        return desk.sessions()

    running = node.start(settings, Archive(tmp_path / "archive"), sessions, Bells())
    try:
        peer = Peer("CXRWORKER", "127.0.0.1", running.port)
        ds = datasets.image()
        assert [sent.status for sent in send([ds], peer, "MODALITY")] == [0xA700]
        away = False
        assert [sent.status for sent in send([ds], peer, "MODALITY")] == [0x0000]
    finally:
        running.shutdown()
    assert desk.one(Instance).sop_instance_uid == ds.SOPInstanceUID


def test_a_port_that_is_taken_is_a_wrong_setting(
    desk: Desk, settings: Settings, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "archive")
    running = node.start(settings, archive, desk.sessions, Bells())
    try:
        taken = settings.model_copy(update={"port": running.port})
        with pytest.raises(ConfigurationError, match=r"^CXR_PORT: "):
            node.start(taken, archive, desk.sessions, Bells())
    finally:
        running.shutdown()


def test_the_node_listens_and_calls_as_the_settings_say(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    files = authority.issue("node")
    config = node.node_config(Settings.from_env({
        "CXR_HOME": str(tmp_path), "CXR_PLAINTEXT": "off", "CXR_TLS_PORT": "2762",
        "CXR_TLS_CERTIFICATE": str(files.certificate), "CXR_TLS_KEY": str(files.key),
        "CXR_TLS_AUTHORITY": str(files.authority),
        "CXR_ALLOWED_HOSTS": "192.0.2.0/24,2001:db8::1", "CXR_MAXIMUM_PDU": "65536",
        "CXR_REQUIRE_CALLED_AE_TITLE": "on",
        "CXR_DESTINATIONS": "PACS@192.0.2.7:104?tls=on",
        "CXR_PEERS": "VIEWER@192.0.2.8:104",
    }))  # fmt: skip
    assert (config.plaintext, config.tls_port, config.maximum_pdu) == (False, 2762, 65536)
    assert config.tls is not None
    assert config.require_called_ae_title
    assert [str(network) for network in config.allowed_hosts] == ["192.0.2.0/24", "2001:db8::1/128"]
    assert {title: str(peer) for title, peer in config.peers.items()} == {
        "PACS": "PACS@192.0.2.7:104", "VIEWER": "VIEWER@192.0.2.8:104",
    }  # fmt: skip
    assert set(config.peer_tls) == {"PACS"}


def test_what_a_destination_says_to_an_unknown_request_is_not_ours(desk: Desk) -> None:
    assert not node.taker(desk.sessions, desk.clock)(Commitment("2.25.9", ("2.25.1",)))
