"""The first step of a worker: to classify. What it works with is passed in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.exc import DBAPIError

from dicom_node.decoder_child import DecoderAway
from dicom_node.errors import InstanceError, InvalidInstance
from worker import ledger
from worker.database import DATABASE_AWAY
from worker.desk import Bell, Desk, held
from worker.explaining import Explain, explained
from worker.ledger import Claim, LeaseLost, NewFinding
from worker.reading import ArchiveAway, FileGone, pixels_of, read_bytes
from worker.states import JobKind
from worker.tables import Instance

if TYPE_CHECKING:
    import numpy as np

    from model.fitness import Population
    from model.predict import ModelInfo, Prediction

log = logging.getLogger(__name__)

MODEL_FAILURE, WORKER_FAILURE = "MODEL_FAILURE", "WORKER_FAILURE"
# After so many workers that died with an instance in their hands no other is given it: the first
# time it may have been one of its batch mates, the second time it was alone.
MOST_DEATHS = 2
# How much longer than a failure of the instance a lack of this machine is borne.
PATIENCE = 5
CALIBRATION_KEYS = ("threshold", "undetermined", "temperature", "calibrated")


class _Away(str):
    """The error of a try that says nothing about the instance: archive or memory were lacking."""


class _Scarce(str):
    """The error of a try that this machine lacked something for; much later it is a failure."""


class _Gone(str):
    """The error of a try that found nothing to assess: in the end, for a person to see."""


class Classifier(Protocol):
    """What the classify step needs of a model; :class:`model.predict.Classifier` is one."""

    @property
    def info(self) -> ModelInfo:
        """Name, version, digest, thresholds."""
        ...

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Make (rows, columns) float32 in [0, 1] the network's input."""
        ...

    def predict(self, batch: np.ndarray, population: Population) -> list[Prediction]:
        """Answer (batch, size, size) float32."""
        ...


def claim_instances(desk: Desk) -> list[Claim]:
    """Claim the next batch of instances."""
    limit = desk.settings.batch_size
    with desk.sessions() as session, session.begin():
        return ledger.claim(session, JobKind.CLASSIFY, limit, desk.clock(), desk.lease)


def classify(
    desk: Desk,
    classifier: Classifier,
    announce: Callable[[Bell], None],
    explain: Explain | None = None,
) -> int:
    """Classify one batch of claimed instances and save what was found.

    Parameters
    ----------
    announce
        Called with each bell: a further batch (before this one is worked on, so that another
        worker may take it), and a report that became due.
    explain
        Makes the heat maps of what is, or may be, pneumonia. None when nobody wants them.

    Returns
    -------
    int
        How many instances were claimed.
    """
    claims = claim_instances(desk)
    if not claims:
        return 0
    announce(Bell(JobKind.CLASSIFY))
    with held(desk, claims, desk.settings.step_limit_s):
        with desk.sessions() as session:
            instances = ledger.claimed_instances(session, claims)
        answers = _answers(desk, classifier, explain, claims, instances)
        due = _save_findings(desk, classifier.info, claims, answers)
    if due:
        announce(Bell(JobKind.REPORT))
    return len(claims)


def _answers(
    desk: Desk,
    classifier: Classifier,
    explain: Explain | None,
    claims: Sequence[Claim],
    instances: dict[int, Instance],
) -> dict[int, NewFinding | str]:
    """Answer each claimed instance, by its id: a finding, or the error of a failed try."""
    answers: dict[int, NewFinding | str] = {}
    prepared: dict[int, tuple[np.ndarray, tuple[str, ...]]] = {}
    for claim in claims:
        instance = instances[claim.subject_id]
        if claim.deaths >= MOST_DEATHS:
            log.error("%s ended its worker %d times", instance.sop_instance_uid, claim.deaths)
            answers[instance.id] = NewFinding(assessed=False, reason=WORKER_FAILURE)
            continue
        try:
            prepared[instance.id] = _prepare(desk, classifier, instance)
        except InstanceError as error:
            log.info("%s is not assessed: %s", instance.sop_instance_uid, error.reason)
            answers[instance.id] = NewFinding(assessed=False, reason=error.reason)
        except ArchiveAway as error:
            log.warning("%s cannot be read now: %s", instance.sop_instance_uid, error)
            answers[instance.id] = _Away(error)
        except FileGone as error:
            log.warning("%s cannot be assessed: %s", instance.sop_instance_uid, error)
            answers[instance.id] = _Gone(error)
        except (MemoryError, DecoderAway, OSError) as error:
            log.warning("%s: %s", instance.sop_instance_uid, type(error).__name__)
            answers[instance.id] = _Scarce(type(error).__name__)
        except Exception as error:
            log.exception("%s could not be prepared", instance.sop_instance_uid)
            answers[instance.id] = type(error).__name__
    answers |= _predict(classifier, prepared, desk.settings.population)
    if explain is not None:
        images = {key: image for key, (image, _) in prepared.items()}
        answers |= explained(explain, images, answers)
    return answers


def _prepare(
    desk: Desk, classifier: Classifier, instance: Instance
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read an instance and make the network's input of it; with the flags of its header."""
    from pydicom import dcmread

    from model.fitness import HeaderFacts, check_header

    data = read_bytes(desk.archive, instance.path)
    ds = dcmread(BytesIO(data))
    verdict = check_header(HeaderFacts.from_dataset(ds), desk.settings.population)
    if verdict.reason is not None:
        raise InvalidInstance(verdict.reason, "refused by its header", instance.sop_instance_uid)
    pixels = pixels_of(desk.decoder, ds, data, instance.sop_instance_uid)
    return classifier.prepare(pixels), verdict.flags


def _predict(
    classifier: Classifier,
    prepared: dict[int, tuple[np.ndarray, tuple[str, ...]]],
    population: Population,
) -> dict[int, NewFinding | str]:
    import numpy as np

    if not prepared:
        return {}
    try:
        batch = np.stack([pixels for pixels, _ in prepared.values()])
        predictions = classifier.predict(batch, population)
    except MemoryError:  # of this machine or its GPU: no instance is larger than another here
        log.warning("there is no memory for the model just now")
        return dict.fromkeys(prepared, _Away("there was no memory for the model"))
    except Exception as error:
        log.exception("the model failed on a batch of %d", len(prepared))
        return dict.fromkeys(prepared, type(error).__name__)
    pairs = zip(prepared.items(), predictions, strict=True)
    return {i: _new_finding(prediction, flags) for (i, (_, flags)), prediction in pairs}


def _new_finding(prediction: Prediction, flags: tuple[str, ...]) -> NewFinding:
    return NewFinding(
        assessed=prediction.reason is None,
        reason=prediction.reason,
        finding=prediction.finding,
        pneumonia=prediction.pneumonia,
        bacterial=prediction.bacterial,
        viral=prediction.viral,
        flags=tuple(dict.fromkeys((*flags, *prediction.flags))),
    )


def _save_findings(
    desk: Desk, info: ModelInfo, claims: Sequence[Claim], answers: dict[int, NewFinding | str]
) -> bool:
    """Save the answers of a batch; tell whether a report became due by them."""
    now = desk.clock()
    with desk.sessions() as session, session.begin():
        model_id = _model_id(session, info, now)
    final = {claim: _final(desk, claim, answers[claim.subject_id]) for claim in claims}
    saved = _save_at_once(desk, model_id, final, now)
    for claim, answer in final.items():
        if isinstance(answer, NewFinding):
            log.debug("instance %d: %s", claim.subject_id, answer.finding or answer.reason)
        if claim not in saved:
            _save_by_itself(desk, model_id, claim, answer)
    with desk.sessions() as session:
        return ledger.ready_studies(session, (c.study_id for c in claims), now, desk.silence)


def _final(desk: Desk, claim: Claim, answer: NewFinding | str) -> NewFinding | str:
    """Make the error of a last try a finding: that there is none."""
    failed = isinstance(answer, str) and not isinstance(answer, _Away | _Gone)
    most = desk.settings.max_attempts * (PATIENCE if isinstance(answer, _Scarce) else 1)
    if failed and claim.tries >= most:
        return NewFinding(assessed=False, reason=MODEL_FAILURE)
    return answer


def _save_at_once(
    desk: Desk, model_id: int, answers: Mapping[Claim, NewFinding | str], now: datetime
) -> set[Claim]:
    """Save in one transaction what needs no thought; give what was saved."""
    found = {each: new for each, new in answers.items() if isinstance(new, NewFinding)}
    if len(found) < 2:
        return set()
    try:
        with desk.sessions() as session, session.begin():
            return ledger.save_findings(session, model_id, found, now)
    except DATABASE_AWAY:
        raise
    except DBAPIError:  # it takes one of them for nothing that it stores: which one?
        return set()


def _save_by_itself(desk: Desk, model_id: int, claim: Claim, answer: NewFinding | str) -> None:
    try:
        with desk.sessions() as session, session.begin():
            _save_answer(desk, session, claim, model_id, answer)
    except DATABASE_AWAY:
        raise
    except DBAPIError as error:  # what was found is nothing that a database takes
        log.error("instance %d: %s", claim.subject_id, type(error).__name__)  # noqa: TRY400
        failure = NewFinding(assessed=False, reason=MODEL_FAILURE)
        with desk.sessions() as session, session.begin():
            _save_answer(desk, session, claim, model_id, failure)


def _save_answer(
    desk: Desk, session: Any, claim: Claim, model_id: int, answer: NewFinding | str
) -> None:
    if isinstance(answer, _Away):
        ledger.put_back(session, claim, desk.shortly(), answer, counts=False)
        return
    if isinstance(answer, _Gone) and claim.tries >= desk.settings.max_attempts:
        ledger.bury(session, claim, answer)
        return
    if isinstance(answer, str):
        ledger.put_back(session, claim, desk.back_off(claim.tries, 1, 60), answer)
        return
    try:
        ledger.save_finding(session, claim, model_id, answer, desk.clock())
    except LeaseLost:
        log.warning("instance %d was taken over by another worker", claim.subject_id)
        ledger.take_death_back(session, claim)


def _model_id(session: Any, info: ModelInfo, now: datetime) -> int:
    details = {key: getattr(info, key) for key in CALIBRATION_KEYS}
    return ledger.model_row(
        session, name=info.name, version=info.version, digest=info.digest, details=details, now=now
    )
