"""HL7: what the message says, held against hl7apy, and what each acknowledgement means."""

from __future__ import annotations

import itertools
import re
import ssl
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.certificates import Authority
from tests.notices import news
from tests.receivers import HANG, Mllp, acknowledgement
from worker import hl7, mllp
from worker.hl7 import Ends
from worker.notice import ISSUER, NoticeRefused, TargetAway
from worker.settings import Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ENDS = Ends("CXRWORKER", "OURS", "HIS", "WARD")
EVERYTHING = {
    "accession_number": "ACC-0815", "patient_id": "PID-4711", ISSUER: "GOETTINGEN",
    "patient_name": "Noether^Emmy^Amalie^Dr.^PhD", "patient_birth_date": "18820323",
    "patient_sex": "F", "study_instance_uid": "1.2.3", "study_date": "20260102",
    "report_uid": "1.2.4",
}  # fmt: skip


def message(**changes: Any) -> str:
    return hl7.message_of(news(**changes), ENDS, NOW).decode()


def segments(text: str) -> list[list[str]]:
    return [segment.split("|") for segment in text.split("\r") if segment]


def segment(text: str, name: str, number: int = 0) -> list[str]:
    return [each for each in segments(text) if each[0] == name][number]


@pytest.mark.parametrize("fields", [{}, EVERYTHING])
@pytest.mark.parametrize("finding", ["PRESENT", "ABSENT", "UNDETERMINED", "NOT_ASSESSED"])
def test_the_message_is_valid_by_another_implementation(
    fields: dict[str, str], finding: str
) -> None:
    text = message(finding=finding, corrects=finding != "PRESENT", fields=fields, unassessed=1)
    parsed = parse_message(text, find_groups=True)
    assert parsed.version == "2.5.1"
    assert parsed.validate()
    (result,) = parsed.oru_r01_patient_result
    assert result.oru_r01_patient.pid.pid_3.value
    (observation,) = result.oru_r01_order_observation
    assert len(observation.oru_r01_observation) == (4 if fields else 2)


def test_the_head_says_who_what_and_in_which_characters() -> None:
    msh = segment(message(), "MSH")
    assert msh[1:12] == [
        "^~\\&", "CXRWORKER", "OURS", "HIS", "WARD", "20260102030405+0000", "", "ORU^R01^ORU_R01",
        news().message_id, "P", "2.5.1",
    ]  # fmt: skip
    assert msh[17] == "UNICODE UTF-8"
    assert len(news().message_id) <= 20


def test_a_positive_study_is_coded_abnormal_and_preliminary() -> None:
    obx = segment(message(), "OBX")
    assert obx[2:6] == ["CWE", "233604007^Pneumonia^SCT", "", "52101004^Present^SCT"]
    assert (obx[8], obx[11]) == ("A", "P")
    assert obx[18] == "pneumonia-resnet 1.2^CXRWORKER"
    assert segment(message(), "OBR")[25] == "P"
    score = segment(message(), "OBX", 1)
    assert score[2:7] == ["NM", "122157^Probability^DCM", "", "93.4", "%^Percent^UCUM"]
    raw = segment(message(calibrated=False), "OBX", 1)
    assert raw[3] == "111012^Certainty of Finding^DCM"


def test_it_is_as_careful_as_the_report() -> None:
    note = segment(message(), "NTE")[3]
    for words in ("Preliminary", "not verified", "a reader has to confirm it", "research use"):
        assert words in note


def test_a_correction_says_so_and_is_not_abnormal() -> None:
    text = message(finding="ABSENT", corrects=True)
    obx = segment(text, "OBX")
    assert (obx[5], obx[8], obx[11]) == ("272519000^Absent^SCT", "", "C")
    assert segment(text, "OBR")[25] == "C"
    assert "corrects an earlier notice" in segment(text, "NTE", 1)[3]
    assert segment(message(finding="NOT_ASSESSED", corrects=True), "OBX")[5] == "NOT_ASSESSED^^L"


def test_nothing_chosen_names_nobody() -> None:
    text = message()
    pid = segment(text, "PID")
    assert pid[3] == f"{news().reference}^^^CXRWORKER^ANON"
    assert pid[5] == "^^^^^^S"
    assert len(pid) == 6
    assert segment(text, "OBR")[3] == f"{news().reference}^CXRWORKER"
    assert segment(text, "OBR")[7] == ""


def test_what_is_chosen_stands_where_it_belongs() -> None:
    text = message(fields=EVERYTHING)
    pid, obr = segment(text, "PID"), segment(text, "OBR")
    assert pid[3] == "PID-4711^^^GOETTINGEN^PI"
    assert pid[5] == "Noether^Emmy^Amalie^PhD^Dr."
    assert (pid[7], pid[8]) == ("18820323", "F")
    assert (obr[3], obr[7]) == ("ACC-0815^CXRWORKER", "20260102")
    uids = [obx[5] for obx in segments(text) if obx[0] == "OBX" and obx[2] == "ST"]
    assert uids == ["1.2.3", "1.2.4"]


def test_a_name_in_several_scripts_is_repeated() -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    pid = segment(message(fields={"patient_name": name}), "PID")
    assert pid[5].split("~") == [
        "Yamada^Tarou^^^^^^A", "山田^太郎^^^^^^I", "やまだ^たろう^^^^^^P",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["^^^^", "=", "   "])
def test_a_name_that_is_none_is_nobodys(name: str) -> None:
    assert segment(message(fields={"patient_name": name}), "PID")[5] == "^^^^^^S"


def test_dates_and_sexes_that_are_none_are_left_out() -> None:
    fields = {"patient_birth_date": "tomorrow", "patient_sex": "F|x", "study_date": "2026.01.02"}
    text = message(fields=fields)
    assert segment(text, "PID")[7:] == []
    assert segment(text, "OBR")[7] == "20260102"


UNESCAPED = {"E": "\\", "F": "|", "S": "^", "T": "&", "R": "~"}


def unescaped(value: str) -> str:
    return re.sub(r"\\([EFSTR])\\", lambda found: UNESCAPED[found[1]], value)


@given(st.text(st.sampled_from("\\|^&~FSTRE ä\r\n\x0b\x1c" + string.ascii_lowercase), max_size=30))
@hypothesis_settings(max_examples=200, deadline=None)
def test_no_value_is_taken_for_anything_but_text(value: str) -> None:
    fields = {"patient_id": "x" + value + "x", "accession_number": value, ISSUER: value}
    data = hl7.message_of(news(fields=fields), ENDS, NOW)
    assert not {0x0B, 0x1C, 0x0A} & set(data)
    text = data.decode()
    assert [each[0] for each in segments(text)] == ["MSH", "PID", "OBR", "OBX", "NTE", "OBX"]
    (identifier, *_) = segment(text, "PID")[3].split("^")
    assert unescaped(identifier) == re.sub(r"[\r\n\x0b\x1c]", " ", fields["patient_id"])


# --- acknowledgements ------------------------------------------------------------------------

SENT = b"MSH|^~\\&|CXRWORKER||||||ORU^R01^ORU_R01|7|P|2.5.1\r"


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_an_acceptance_is_the_end_of_it(code: str) -> None:
    assert code in hl7.answer_of(acknowledgement(code, SENT), "7").words


@pytest.mark.parametrize("code", ["AE", "CE"])
def test_an_error_is_tried_again(code: str) -> None:
    with pytest.raises(TargetAway, match=code) as caught:
        hl7.answer_of(acknowledgement(code, SENT), "7")
    assert caught.value.answered


@pytest.mark.parametrize("code", ["AR", "CR"])
def test_a_rejection_is_for_a_person(code: str) -> None:
    with pytest.raises(NoticeRefused, match=code):
        hl7.answer_of(acknowledgement(code, SENT), "7")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"MSH", b"MSH|^~\\&|x\r", b"MSH|^~\\&|x\rMSA|AA\r", b"MSA|AA|7\r",
        b"MSH|^~\\&|x\rMSA|ZZ|7\r", b"MSH|^~\\&|x\rMSA|AA|8\r", b"\xff\xfe\x00\r\r",
    ],
)  # fmt: skip
def test_what_is_no_acknowledgement_of_it_is_tried_again(data: bytes) -> None:
    with pytest.raises(TargetAway):
        hl7.answer_of(data, "7")


def test_other_separators_and_line_ends_are_understood() -> None:
    assert hl7.answer_of(b"MSH#^~\\&#x\r\nMSA#AA#7#fine\r\n", "7").words


# --- sending ---------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Mllp]:
    with Mllp().listening() as receiver:
        yield receiver


def ours(receiver: Mllp, scheme: str = "mllp", **environ: str) -> Settings:
    address = f"{scheme}://localhost:{receiver.port}"
    values = {"CXR_HL7_DESTINATION": address, "CXR_DELIVERY_TIMEOUT_S": "20"}
    return Settings.from_env(values | environ)


def test_a_message_is_sent_framed_and_acknowledged(receiver: Mllp) -> None:
    settings = ours(receiver, CXR_HL7_RECEIVING_APPLICATION="HIS", CXR_AE_TITLE="CXR")
    assert "AA" in hl7.send(settings, news()).words
    (came,) = receiver.came
    assert segment(came.decode(), "MSH")[2:6] == ["CXR", "", "HIS", ""]


def test_each_try_has_the_same_id(receiver: Mllp) -> None:
    receiver.answers = ["AE"]
    with pytest.raises(TargetAway):
        hl7.send(ours(receiver), news())
    hl7.send(ours(receiver), news())
    assert len({segment(came.decode(), "MSH")[9] for came in receiver.came}) == 1
    assert len(receiver.came) == 2


@pytest.mark.parametrize(
    "answer",
    [b"MSH|no frame\r\x1c\r", b"\x0b" + b"x" * 70_000, b"\x0bcut off", b"", b"HTTP/1.1 400\r\n"],
)
def test_an_answer_that_is_not_framed_is_tried_again(receiver: Mllp, answer: bytes) -> None:
    receiver.answers = [answer]
    with pytest.raises(TargetAway) as caught:
        hl7.send(ours(receiver), news())
    assert caught.value.reached


def test_who_does_not_answer_may_have_heard_it(receiver: Mllp) -> None:
    receiver.answers = [HANG]
    with pytest.raises(TargetAway) as caught:
        hl7.send(ours(receiver, CXR_DELIVERY_TIMEOUT_S="0.3"), news())
    assert (caught.value.reached, caught.value.answered) == (True, False)


def test_who_draws_the_answer_out_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 4)
    monkeypatch.setattr(mllp.time, "monotonic", lambda: float(next(clock)))
    with Mllp([b"\x0b" + b"x" * 50_000]).listening() as receiver, pytest.raises(TimeoutError):
        mllp.exchange("127.0.0.1", receiver.port, SENT, 10)


def test_who_cannot_be_reached_has_heard_nothing() -> None:
    with Mllp().listening() as receiver:
        settings = ours(receiver)
    with pytest.raises(TargetAway) as caught:
        hl7.send(settings, news())
    assert caught.value.reached is False


def test_a_receiver_is_told_over_tls_if_its_certificate_is_vouched_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    files, us = authority.issue("his", hosts="DNS:localhost"), authority.issue("us")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    tls.load_verify_locations(authority.certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    with Mllp().listening(tls) as receiver:
        known = ours(
            receiver, "mllps", CXR_NOTIFY_AUTHORITY=str(authority.certificate),
            CXR_NOTIFY_CERTIFICATE=str(us.certificate), CXR_NOTIFY_KEY=str(us.key),
        )  # fmt: skip
        assert "AA" in hl7.send(known, news()).words
        with pytest.raises(TargetAway):
            hl7.send(ours(receiver, "mllps"), news())
        assert len(receiver.came) == 1
