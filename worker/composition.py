"""Composition root of a process: settings, engine, archive, classifier; each built when asked for.

Celery forks its children after import, so nothing here is built at import time: a connection or a
TensorFlow runtime must not cross a fork.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.decoder_pool import DecoderPool
from dicom_node.store import Store
from worker.answering import Answering
from worker.clock import clock_of
from worker.database import build_engine, build_reading_sessions, build_sessions, require_schema
from worker.desk import Desk
from worker.explaining import Explain
from worker.placing import archive_of
from worker.settings import Settings
from worker.states import CompanionKind
from worker.trying import Trying

# Instances that one process prepares at once, on a machine with that many cores: each may need a
# decoding process of its own.
MOST_AT_ONCE = 8

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

    from model.explain import Explainer
    from model.predict import Classifier, ModelInfo
    from worker.audit.trail import Trail


@cache
def settings() -> Settings:
    """Read this process's settings.

    Raises
    ------
    ConfigurationError
        When one is wrong.
    """
    return Settings.from_env()


@cache
def engine() -> Engine:
    """Build the database engine."""
    return build_engine(settings().database_url)


@cache
def archive() -> Store:
    """Name the archive; `worker.archiving` makes it where it may be made."""
    return archive_of(settings(), settings().archive_reserve_mb * 1_000_000)


@cache
def desk() -> Desk:
    """Gather what the steps work with, over a database whose schema is the one they know."""
    require_schema(engine())
    ours = settings()
    # Reports may use the reserve: it is kept for them when the node takes no more images. The node
    # makes the archive: a worker that does not find it waits.
    reserveless = archive_of(ours)
    at_once = min(len(os.sched_getaffinity(0)), MOST_AT_ONCE)
    decoder = DecoderPool(at_once, ours.decode_limit_s)
    sessions, clock = build_sessions(engine()), clock_of(engine())
    return Desk(sessions, reserveless, ours, clock, decoder, at_once)


def trail(*, sends: bool = False) -> Trail:
    """Make the audit trail; `sends` in the one process that lasts and so sends it to a receiver.

    Raises
    ------
    ConfigurationError
        When a certificate for the receiver cannot be used.
    """
    from worker.audit.trail import Trail

    return Trail.of(settings(), sends=sends)


def require_certificates() -> None:
    """Refuse to start with files of TLS, or of the web pages, that cannot be used.

    Raises
    ------
    ConfigurationError
        Naming the file that is wrong.
    """
    from dicom_node.tls import client_context
    from worker import web_checks

    files = settings().tls_files
    if files is not None:
        client_context(files)
    web_checks.require_files(settings())


def reading_sessions() -> sessionmaker[Session]:
    """Give sessions for queries."""
    require_schema(engine())
    return build_reading_sessions(engine())


def model_path() -> Path:
    """Name the folder of the model: the one that is set, or the one that is shipped."""
    import model

    return settings().model or Path(model.__file__).parent / "released"


def model_info(version: str | None = None) -> ModelInfo:
    """Read what the current model, or another version, says of itself, without TensorFlow.

    Raises
    ------
    ConfigurationError
        When there is no such version, or it is damaged.
    """
    from model import registry
    from model.predict import load_info

    path = model_path()
    return load_info(path if version is None else registry.find(path, version))


@cache
def answering() -> Answering:
    """Make what keeps the chosen model loaded."""
    # A log keeps the warnings and errors of TensorFlow that model.quiet hides from a terminal.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    return Answering(model_path(), load_classifier, build_explainer)


def load_classifier(path: Path) -> Classifier:
    """Load a model as the settings say.

    Raises
    ------
    ConfigurationError
        When it is damaged, or there is no such device or engine.
    """
    from model.predict import Classifier

    ours = settings()
    cache = ours.home / "engines"
    return Classifier.load(path, ours.device, ours.engine, cache, ours.gpu_memory_mb)


@cache
def trying() -> Trying:
    """Make what keeps the candidate loaded, once there is one."""
    return Trying(model_path(), load_classifier)


def build_explainer(classifier: Classifier) -> Explainer:
    """Build what explains a model's answers; it loads TensorFlow, whatever engine answers."""
    from model.explain import Explainer

    return Explainer.of(classifier)


def classifier() -> Classifier:
    """Give the model that is chosen now."""
    return answering().classifier()


def explain() -> Explain | None:
    """Give what makes heat maps; None when nobody wants them."""
    wanted = settings().heatmaps or CompanionKind.PICTURE in settings().companions
    return answering().heatmaps if wanted else None
