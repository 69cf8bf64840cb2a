"""The steps in the life of a model: used, tried on live studies, promoted, rolled back.

Each is written to the audit trail and to `model_events` before it is taken. The file `current` in
the folder of versions says which model answers; a worker takes a change up at its next batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import PacsWorkerError
from model import registry
from worker import composition, given_up
from worker.audit.messages import model_changed
from worker.clock import clock_of
from worker.ledger import candidates, model_events
from worker.ledger.candidates import Artifact
from worker.recorded import recorded, sessions_here
from worker.states import ModelAction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from model.predict import ModelInfo
    from worker.audit.messages import Person
    from worker.audit.schema import Message

log = logging.getLogger(__name__)

Build = Callable[[Path], object]


class StepRefused(PacsWorkerError):
    """A step that cannot be taken; nothing was changed. Its text is a line for a person."""


# --- steps -----------------------------------------------------------------------------------


def use(path: Path, wanted: str, build: Build) -> ModelInfo:
    """Make a version the one that answers, whether or not that can be recorded.

    This way back to a model that works is not barred by a database that is away; the log says so.

    Raises
    ------
    ConfigurationError
        As `model.registry.use` does.
    """
    former = registry.current_name(path)
    found = _checked(path, wanted, build)
    try:
        sessions = sessions_here()
        _step(sessions, ModelAction.USED, found, "", former, lambda: _choose(path, found))
    except (PacsWorkerError, SQLAlchemyError) as error:
        if registry.current_name(path) != found.folder:
            registry.choose(path, found.folder)
        why = str(error) if isinstance(error, PacsWorkerError) else type(error).__name__
        log.warning("this step is not in the history of models: %s", why)
    return _info(path, found)


def shadow(path: Path, wanted: str, build: Build, reason: str) -> Artifact:
    """Try a version on whatever is answered from now on; nobody is told what it says.

    Raises
    ------
    ConfigurationError
        When there is no such version, it is damaged or cannot be built.
    StepRefused
        When it is the one that answers.
    """
    found = _checked(path, wanted, build)
    if found.folder == registry.current_name(path):
        raise StepRefused(f"{found.folder} is the model that answers: there is nothing to compare")
    _step(
        sessions_here(), ModelAction.SHADOWED, found, reason, "",
        before=lambda s: candidates.begin_trial(s, found, _now()),
    )  # fmt: skip
    return found


def withdraw(reason: str) -> Artifact:
    """Try no model any more; what the candidate has said stays, to be compared.

    Raises
    ------
    StepRefused
        When none is tried.
    """
    sessions = sessions_here()
    found = _tried(sessions)
    _step(sessions, ModelAction.WITHDRAWN, found, reason, "", before=_end_of(found))
    return found


def promote(path: Path, build: Build, reason: str) -> Artifact:
    """Make the candidate the model that answers; the one that does so now can be returned to.

    Raises
    ------
    ConfigurationError
        When it is damaged or cannot be built, or the choice cannot be written.
    StepRefused
        When there is no candidate, or it is not what it was when its trial began.
    """
    sessions = sessions_here()
    tried, former = _tried(sessions), registry.current_name(path)
    if _checked(path, tried.folder, build).digest != tried.digest:
        raise StepRefused(
            f"{tried.folder} is not what was tried: its digest was {tried.digest[:16]}; "
            "`cxr-worker model shadow` begins another trial"
        )
    _step(
        sessions, ModelAction.PROMOTED, tried, reason, former, lambda: _choose(path, tried),
        before=_end_of(tried),
    )  # fmt: skip
    return tried


def roll_back(path: Path, build: Build, reason: str) -> Artifact:
    """Return to the model that answered before the last promotion.

    Raises
    ------
    ConfigurationError
        When it is damaged or cannot be built, or the choice cannot be written.
    StepRefused
        When the last change was no promotion.
    """
    sessions = sessions_here()
    with sessions() as session:
        last = model_events.last_change(session)
    now = registry.current_name(path)
    if last is None or last.action != ModelAction.PROMOTED or not last.former or last.folder != now:
        raise StepRefused(
            "there is nothing to return to: the model that answers was not promoted; "
            "`cxr-worker model use` chooses any version"
        )
    found = _checked(path, last.former, build)
    _step(sessions, ModelAction.ROLLED_BACK, found, reason, now, lambda: _choose(path, found))
    return found


# --- what they share -------------------------------------------------------------------------


def _now() -> datetime:
    """Give the time that leases and answers go by too."""
    return clock_of(composition.engine())()


def _checked(path: Path, wanted: str, build: Build) -> Artifact:
    found = registry.check(path, wanted, build)
    assert found.info is not None  # it is whole
    return Artifact(found.info.name, found.info.version, found.info.digest, found.folder.name)


def _choose(path: Path, model: Artifact) -> None:
    registry.choose(path, model.folder)


def _info(path: Path, model: Artifact) -> ModelInfo:
    from model.predict import load_info

    return load_info(path / model.folder)


def _tried(sessions: sessionmaker[Session]) -> Artifact:
    with sessions() as session:
        found = candidates.candidate(session)
    if found is None:
        raise StepRefused("there is no candidate: `cxr-worker model shadow` begins a trial")
    return candidates.artifact_of(found)


def _end_of(tried: Artifact) -> Callable[[Session], None]:
    def end(session: Session) -> None:
        if candidates.end_trial(session, _now()) != tried:
            raise StepRefused("another candidate was chosen meanwhile")

    return end


def _step(
    sessions: sessionmaker[Session],
    action: ModelAction,
    model: Artifact,
    reason: str,
    former: str,
    then: Callable[[], object] = lambda: None,
    *,
    before: Callable[[Session], object] = lambda _: None,
) -> None:
    """Take a step: rows, audit trail, and what is not in the database, in this order."""

    def message(by: Person) -> Message:
        why = f": {reason}" if reason else ""
        words = action.lower().replace("_", " ")
        return model_changed(by, f"{words} {model.name} {model.version} {model.digest}{why}")

    with recorded(sessions, message, then) as session:
        before(session)
        _end_a_trial_of(session, action, model)
        model_events.save_event(
            session, action, model, given_up.who(), _now(), reason=reason, former=former
        )


def _end_a_trial_of(session: Session, action: ModelAction, model: Artifact) -> None:
    """Try a model no more that answers from now on."""
    tried = candidates.candidate(session)
    if tried is not None and action is not ModelAction.SHADOWED and tried.digest == model.digest:
        candidates.end_trial(session, _now())
