"""Shadow mode: a candidate looks at what the model in use has answered; nobody is told.

It works from the archive and in transactions of its own, long after the answer that counts is
committed, so nothing that it does can change, fail or hold that up:

- It begins nothing while an image waits to be classified, and has few images in hand.
- What it raises is caught, and is a finding of its own: that it has none.
- A candidate that ends its worker, or hangs until that is ended, is stopped the second time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from dicom_node.errors import PacsWorkerError
from worker.answers import MODEL_FAILURE, Away, Gone, Scarce
from worker.classifying import new_finding
from worker.database import DATABASE_AWAY
from worker.desk import GO_ON_S, SHADOW_LIMIT_S, Desk
from worker.ledger import NewFinding, candidates, model_events
from worker.ledger.candidates import SETTLED, Trial
from worker.preparing import Input, prepare_instance
from worker.states import ModelAction
from worker.trying import Trying

if TYPE_CHECKING:
    from model.predict import Prediction
    from worker.classifying import Classifier

log = logging.getLogger(__name__)

# An image that comes meanwhile waits for so many others at most.
AT_ONCE = 4
# Longer than a worker can have it in hand.
LEASE = timedelta(seconds=SHADOW_LIMIT_S + 30)
# When a candidate is tried again that could not be tried now.
PUT_OFF = timedelta(seconds=60)
# So many workers may end with a candidate in hand, one after the other.
MOST_DEATHS = 2
NOBODY = "cxr-worker"


class _NotNow(Exception):
    """What was lacking says nothing of the candidate; it tells why."""


def shadow(desk: Desk, trying: Trying, *, go_on_s: float = GO_ON_S) -> int:
    """Have the candidate look at what was answered, until there is nothing left or for `go_on_s`.

    Returns
    -------
    int
        How many answers it has looked at.
    """
    end, done = time.monotonic() + go_on_s, 0
    while True:
        trial = _claim(desk)
        if trial is None or not _try(desk, trying, trial):
            return done
        done += len(trial.answers)
        if time.monotonic() >= end:
            return done


def _claim(desk: Desk) -> Trial | None:
    """Claim the candidate; one that ended its workers is stopped instead."""
    now = desk.clock()
    with desk.sessions() as session, session.begin():
        trial = candidates.claim_trial(session, now, SETTLED, LEASE, AT_ONCE)
        if trial is None or trial.deaths < MOST_DEATHS:
            return trial
        candidates.end_trial(session, now)
        reason = f"{trial.deaths} workers ended while they had it in hand"
        model_events.save_event(
            session, ModelAction.STOPPED, trial.model, NOBODY, now, reason=reason
        )
    log.error("the candidate %s %s is stopped: %s", trial.model.name, trial.model.version, reason)
    return None


def _try(desk: Desk, trying: Trying, trial: Trial) -> bool:
    """Have the candidate look at some answers; tell whether it has."""
    try:
        return _save(desk, trial, _look(desk, trying, trial))
    except _NotNow as error:
        _put_off(desk, trial, str(error))
    except MemoryError:
        trying.forget()
        _put_off(desk, trial, "there was no memory for it")
    except PacsWorkerError as error:
        _put_off(desk, trial, str(error))
    except DBAPIError as error:  # not its text: that quotes the values of a row
        _put_off(desk, trial, type(error.orig).__name__)
    except Exception as error:
        log.exception("the candidate could not be tried")
        _put_off(desk, trial, type(error).__name__)
    return False


def _save(desk: Desk, trial: Trial, found: Mapping[int, NewFinding]) -> bool:
    """Save what was found; of what a database does not take, that it is a failure."""
    try:
        with desk.sessions() as session, session.begin():
            return candidates.save_shadows(session, trial, found, desk.clock())
    except DATABASE_AWAY:
        raise
    except DBAPIError:
        failed = dict.fromkeys(found, _failure())
        with desk.sessions() as session, session.begin():
            return candidates.save_shadows(session, trial, failed, desk.clock())


def _put_off(desk: Desk, trial: Trial, why: str) -> None:
    log.warning("the candidate %s %s waits: %s", trial.model.name, trial.model.version, why)
    with desk.sessions() as session, session.begin():
        candidates.put_trial_off(session, trial, desk.clock() + PUT_OFF, why)


def _look(desk: Desk, trying: Trying, trial: Trial) -> dict[int, NewFinding]:
    """Give what the candidate says of the images that are still there, by their ids."""
    classifier = trying.classifier(trial.model)
    with desk.sessions() as session:
        shown = candidates.shown_instances(session, trial)
    found: dict[int, NewFinding] = {}
    inputs: dict[int, Input] = {}
    for key, instance in shown.items():
        made = prepare_instance(desk, classifier, instance)
        if isinstance(made, Input):
            inputs[key] = made
        elif isinstance(made, NewFinding):
            found[key] = made
        elif isinstance(made, Away):
            raise _NotNow(made)
        elif not isinstance(made, Gone | Scarce):  # of these there is nothing to compare
            found[key] = _failure()
    return found | _predicted(desk, classifier, inputs)


def _predicted(
    desk: Desk, classifier: Classifier, inputs: Mapping[int, Input]
) -> dict[int, NewFinding]:
    """Have a batch answered, or each by itself where that fails."""
    if not inputs:
        return {}
    try:
        return _answers(desk, classifier, inputs)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it is the candidate's
        log.warning("the candidate failed on %d images: %s", len(inputs), type(error).__name__)
    if len(inputs) == 1:
        return dict.fromkeys(inputs, _failure())
    found: dict[int, NewFinding] = {}
    for key, each in inputs.items():
        found |= _predicted(desk, classifier, {key: each})
    return found


def _answers(
    desk: Desk, classifier: Classifier, inputs: Mapping[int, Input]
) -> dict[int, NewFinding]:
    import numpy as np

    batch = np.stack([each.image for each in inputs.values()])
    predictions = classifier.predict(batch, desk.settings.population)
    pairs = zip(inputs.items(), predictions, strict=True)
    return {key: _found(prediction, each.flags) for (key, each), prediction in pairs}


def _found(prediction: Prediction, flags: tuple[str, ...]) -> NewFinding:
    """Give what was answered; a score that is none, such as NaN, is a failure."""
    score = prediction.pneumonia
    if score is not None and not 0 <= score <= 1:
        return _failure()
    return new_finding(prediction, flags)


def _failure() -> NewFinding:
    return NewFinding(assessed=False, reason=MODEL_FAILURE)
