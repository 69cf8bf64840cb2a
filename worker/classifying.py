"""The first step of a worker: to classify. What it works with is passed in.

While the network answers one batch, the next one is claimed and prepared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from worker import ledger, metrics, tracing
from worker.answers import Answer, Away, save_answers, tell_answers
from worker.desk import GO_ON_S, Bell, Desk, held
from worker.explaining import Explain, explained
from worker.ledger import Claim, NewFinding
from worker.metrics import Stage, timed
from worker.preparing import Input, Prepared, Preparing, prepare_batch
from worker.states import JobKind
from worker.tracing import Steps

if TYPE_CHECKING:
    import numpy as np

    from model.fitness import Population
    from model.predict import ModelInfo, Prediction

log = logging.getLogger(__name__)


class Classifier(Preparing, Protocol):
    """What the classify step needs of a model; :class:`model.predict.Classifier` is one."""

    @property
    def info(self) -> ModelInfo:
        """Name, version, digest, thresholds."""
        ...

    def predict(self, batch: np.ndarray, population: Population) -> list[Prediction]:
        """Answer (batch, size, size) float32."""
        ...


@dataclass(frozen=True, slots=True)
class _Batch:
    """Claimed instances, prepared; leaving `lease` gives them back."""

    claims: Sequence[Claim]
    prepared: Prepared
    steps: Steps
    lease: AbstractContextManager[Any]


def classify(
    desk: Desk,
    classifier: Classifier,
    announce: Callable[[Bell], None],
    explain: Explain | None = None,
    *,
    helper: Executor | None = None,
    go_on_s: float = GO_ON_S,
) -> int:
    """Classify what is due, batch after batch, until nothing is, or for `go_on_s`.

    At most one batch is in hand besides the one that the network answers. What failed or lost its
    worker before is in hand alone: not in a batch with others, nor while another one is.

    Parameters
    ----------
    announce
        Called with each bell: where more may be due than this worker takes now (before its batch is
        worked on, so that another worker may take it), and when a report became due.
    explain
        Makes the heat maps of what is, or may be, pneumonia. None when nobody wants them.
    helper
        Prepares the next batch; a thread, by default.
    go_on_s
        When to leave the rest to another call.

    Returns
    -------
    int
        How many instances were claimed.
    """
    work = _Work(desk, classifier, announce, explain)
    with ThreadPoolExecutor(1, "next batch") as thread:
        return work.until(time.monotonic() + go_on_s, helper or thread)


def claim_instances(desk: Desk, *, fresh: bool = False) -> list[Claim]:
    """Claim the next batch of instances; none if only `fresh` ones may be had and it is not.

    What failed or lost its worker is not fresh; it stays as it is then, as if never looked at.
    """
    limit = desk.settings.batch_size
    with desk.sessions() as session, session.begin():
        claims = ledger.claim(session, JobKind.CLASSIFY, limit, desk.clock(), desk.lease)
        if fresh and not _are_fresh(claims):
            session.rollback()
            return []
    return claims


def _are_fresh(claims: Sequence[Claim]) -> bool:
    return all(claim.attempts == 1 for claim in claims)


@dataclass(frozen=True, slots=True)
class _Work:
    """What one model has to do at a desk."""

    desk: Desk
    classifier: Classifier
    announce: Callable[[Bell], None]
    explain: Explain | None

    def until(self, end: float, helper: Executor) -> int:
        """Go from batch to batch until nothing is due, or until `end`."""
        done, batch = 0, self._begin()
        while batch:
            goes_on = time.monotonic() < end
            fresh = _are_fresh(batch.claims)
            whole = len(batch.claims) == self.desk.settings.batch_size
            if (whole or not fresh) and not (done and goes_on):
                self.announce(Bell(JobKind.CLASSIFY))
            following = self._finish(batch, helper if whole and fresh and goes_on else None)
            done += len(batch.claims)
            batch = (following or self._begin()) if goes_on else None
        return done

    def _begin(self, *, ahead: bool = False) -> _Batch | None:
        """Claim a batch and prepare it; None when nothing is due."""
        claims = claim_instances(self.desk, fresh=ahead)
        if not claims:
            return None
        # What is ahead waits for the batch before it, which has its own limit.
        limit_s = self.desk.settings.step_limit_s * (2 if ahead else 1)
        with ExitStack() as lease:
            lease.enter_context(held(self.desk, claims, limit_s))
            steps = lease.enter_context(tracing.taken(self.desk, claims))
            with self.desk.sessions() as session:
                instances = ledger.claimed_instances(session, claims)
            claims = [claim for claim in claims if claim.subject_id in instances]  # not erased
            with timed(Stage.PREPARE), steps.part(Stage.PREPARE):
                prepared = prepare_batch(self.desk, self.classifier, claims, instances, steps)
            return _Batch(claims, prepared, steps, lease.pop_all())

    def _finish(self, batch: _Batch, helper: Executor | None = None) -> _Batch | None:
        """Answer a batch while a helper begins the following one; give that.

        What befalls the one does not befall the other.
        """
        following: Future[_Batch | None] | None = None
        try:
            with batch.lease:
                following = helper.submit(self._begin, ahead=True) if helper else None
                self._answer(batch)
        except Exception:
            if following and (innocent := following.result()):
                self._finish(innocent)
            raise
        except BaseException:
            if following and (abandoned := following.result()):
                with abandoned.lease:
                    raise
            raise
        return following.result() if following else None

    def _answer(self, batch: _Batch) -> None:
        """Have a batch answered, and save what was found."""
        inputs, answers = batch.prepared.inputs, dict(batch.prepared.answers)
        with batch.steps.part(Stage.PREDICT):
            answers |= _predict(self.classifier, inputs, self.desk.settings.population)
        if self.explain is not None:
            images = {key: each.image for key, each in inputs.items()}
            with batch.steps.part("explain"):
                answers |= explained(self.explain, images, answers)
        tell_answers(batch.steps, batch.claims, answers)
        if save_answers(self.desk, self.classifier.info, batch.claims, answers):
            self.announce(Bell(JobKind.REPORT))


def _predict(
    classifier: Classifier, inputs: Mapping[int, Input], population: Population
) -> dict[int, Answer]:
    import numpy as np

    if not inputs:
        return {}
    try:
        batch = np.stack([each.image for each in inputs.values()])
        metrics.observe(metrics.BATCH_SIZE, len(batch))
        with timed(Stage.PREDICT):
            predictions = classifier.predict(batch, population)
    except MemoryError:  # of this machine or its GPU: no instance is larger than another here
        log.warning("there is no memory for the model just now")
        return dict.fromkeys(inputs, Away("there was no memory for the model"))
    except Exception as error:
        log.exception("the model failed on a batch of %d", len(inputs))
        return dict.fromkeys(inputs, type(error).__name__)
    pairs = zip(inputs.items(), predictions, strict=True)
    return {i: new_finding(prediction, each.flags) for (i, each), prediction in pairs}


def new_finding(prediction: Prediction, flags: tuple[str, ...]) -> NewFinding:
    """Make a model's answer what is saved of it, with the flags of the image's header."""
    return NewFinding(
        assessed=prediction.reason is None,
        reason=prediction.reason,
        finding=prediction.finding,
        pneumonia=prediction.pneumonia,
        bacterial=prediction.bacterial,
        viral=prediction.viral,
        flags=tuple(dict.fromkeys((*flags, *prediction.flags))),
    )
