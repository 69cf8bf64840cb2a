"""Fakes for the seams between a step and what it works with, and builders of what passes there."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
from pydicom import dcmread

from dicom_node.commitment import Commitment, Reference
from dicom_node.outgoing import Sent
from dicom_node.storage_scp import Received
from dicom_node.storage_scu import Deliver, Delivered
from model.predict import ModelInfo, Prediction
from worker.desk import Bell

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"  # PS3.4 B.5
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"  # PS3.5 A.2

_numbers = itertools.count(1)


def new_uid() -> str:
    """A UID that no other test of this run uses."""
    return f"2.25.777{next(_numbers):012d}"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


def received(**changes: Any) -> Received:
    """What the node hands over for one instance; a study of its own unless told otherwise."""
    uid = changes.pop("sop_instance_uid", None) or new_uid()
    study = changes.pop("study_instance_uid", None) or new_uid()
    facts = Received(
        sop_instance_uid=uid,
        sop_class_uid=COMPUTED_RADIOGRAPHY,
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        patient_id="PAT-1",
        accession_number="ACC-1",
        study_date="20261123",
        modality="CR",
        calling_ae_title="MODALITY",
        association_id="association-1",
        path=f"{study}/{uid}.dcm",
        size=1000,
        sha256=hashlib.sha256(uid.encode()).hexdigest(),
        received_at=NOON,
    )
    return replace(facts, **changes)


class Bells:
    """Remembers what was announced, and when it was due."""

    def __init__(self) -> None:
        self.rung: list[Bell] = []
        self.times: list[datetime | None] = []

    def __call__(self, bell: Bell, at: datetime | None = None) -> None:
        self.rung.append(bell)
        self.times.append(at)


def model_info(digest: str = "d" * 64, version: str = "1.0") -> ModelInfo:
    """What a model says of itself."""
    return ModelInfo(
        name="fake-resnet",
        version=version,
        digest=digest,
        labels=("normal", "bacterial", "viral"),
        input_size=8,
        temperature=1.0,
        calibrated=True,
        kind_temperature=1.0,
        threshold=0.5,
        undetermined=(0.4, 0.6),
        metrics={"auc": 0.9},
        attribution="nobody's data",
        card="# A fake",
    )


PRESENT = Prediction(0.9, 0.75, 0.25, "PRESENT")


@dataclass
class FakeClassifier:
    """Answers every image with `answer`, or with what `answer` makes of it, or fails.

    Parameters
    ----------
    answer
        A prediction, or a function of one prepared image.
    failures
        Exceptions raised by the next calls of `predict`, one each.
    """

    answer: Prediction | Callable[[np.ndarray], Prediction] = PRESENT
    info: ModelInfo = field(default_factory=model_info)
    failures: list[Exception] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    populations: list[str] = field(default_factory=list)
    during: Callable[[], None] = lambda: None
    via: int = 8

    def prepare(self, image: np.ndarray) -> np.ndarray:
        assert image.ndim == 2
        assert image.dtype == np.float32
        return image[:8, :8]

    def predict(self, batch: np.ndarray, population: str = "withhold") -> list[Prediction]:
        self.batches.append(len(batch))
        self.populations.append(population)
        self.during()
        if self.failures:
            raise self.failures.pop(0)
        if isinstance(self.answer, Prediction):
            return [self.answer] * len(batch)
        return [self.answer(image) for image in batch]


COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"  # PS3.4 B.5


def delivered(status: int = 0, uid: str = "", **changes: Any) -> Delivered:
    """How a destination takes a report."""
    return replace(Delivered(status, COMPREHENSIVE_3D_SR, uid or new_uid()), **changes)


class FakeSend:
    """Stands for a destination: keeps what it is sent, or answers with the next of `answers`.

    Companions are taken, save those whose turn in `refused` (0 is the first) it is.
    """

    def __init__(self, answers: Iterable[int | Exception] = ()) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[bytes, str, str, float]] = []
        self.companions: list[list[bytes]] = []
        self.associations = 0
        self.tls: list[Any] = []
        self.refused: set[int] = set()
        self.offers_commitment = False
        self.during: Callable[[], None] = lambda: None

    @contextmanager
    def __call__(
        self,
        peer: Any,
        calling_ae_title: str,
        timeout_s: float,
        *,
        companions: Collection[str],
        tls: Any,
    ) -> Iterator[Deliver]:
        self.associations += 1
        self.tls.append(tls)
        yield partial(self._deliver, str(peer), calling_ae_title, timeout_s)

    def _deliver(
        self, peer: str, calling: str, timeout_s: float, report: bytes,
        companions: Sequence[bytes] = (),
    ) -> Delivered:  # fmt: skip
        self.sent.append((report, peer, calling, timeout_s))
        self.companions.append(list(companions))
        self.during()
        answer = self.answers.pop(0) if self.answers else 0x0000
        if isinstance(answer, Exception):
            raise answer
        meta = dcmread(BytesIO(report), specific_tags=[]).file_meta
        took = tuple(
            Sent(f"1.2.{i}", 0xA900 if i in self.refused else 0x0000)
            for i in range(len(companions))
        )
        return Delivered(
            answer, str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID),
            took, self.offers_commitment,
        )  # fmt: skip


class FakeAsk:
    """Stands for a destination that is asked to commit itself to what it has.

    It answers with the next of `answers`: an exception, None (later), or a status for all that it
    is asked about. When there are none left, it commits itself to all.
    """

    def __init__(self, answers: Iterable[int | Exception | None] = ()) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, list[str]]] = []
        self.tls: list[Any] = []
        self.during: Callable[[], None] = lambda: None

    def __call__(
        self,
        references: Sequence[Reference],
        peer: Any,
        calling_ae_title: str,
        transaction_uid: str,
        *,
        timeout_s: float,
        tls: Any,
    ) -> Commitment | None:
        uids = [reference.sop_instance_uid for reference in references]
        self.asked.append((transaction_uid, uids))
        self.tls.append(tls)
        self.during()
        answer = self.answers.pop(0) if self.answers else 0x0000
        if isinstance(answer, Exception):
            raise answer
        return None if answer is None else answered(transaction_uid, uids, answer)


def answered(transaction_uid: str, uids: Iterable[str], reason: int = 0) -> Commitment:
    """What a destination says: it keeps all, or it keeps none for a reason."""
    if reason:
        return Commitment(transaction_uid, (), tuple((uid, reason) for uid in uids))
    return Commitment(transaction_uid, tuple(uids))


def store_event(data: bytes, meta: Any, association_id: str = "association-1") -> Any:
    """What pynetdicom hands to a C-STORE handler, as far as it is used."""
    return SimpleNamespace(
        encoded_dataset=lambda: data,
        request=SimpleNamespace(
            AffectedSOPClassUID=meta.MediaStorageSOPClassUID,
            AffectedSOPInstanceUID=meta.MediaStorageSOPInstanceUID,
        ),
        context=SimpleNamespace(transfer_syntax=meta.TransferSyntaxUID),
        assoc=SimpleNamespace(
            cxr_association_id=association_id, requestor=SimpleNamespace(ae_title="MODALITY")
        ),
    )


class AtOnce(Executor):
    """Does everything before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(0)` ... `work(count - 1)` at once; give what they return, or raise."""
    results: list[Any] = [None] * count
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(30)
            results[number] = work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return results
