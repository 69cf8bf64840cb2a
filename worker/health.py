"""Whether roles live, and whether they can do their work now; as pages for machines and people."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from dicom_node.errors import ConfigurationError
from worker.checks import ADVICE, Check, check_broker
from worker.endpoint import Page
from worker.looked import Looked
from worker.placing import archive_of
from worker.settings import Settings
from worker.settings_objects import Bucket
from worker.telling import Told

# A main loop that has not turned for so long hangs. What it waits for may take half of that.
BEAT_LIMIT_S = 60.0
# How long what was found is told again, and how long each look may take.
GOOD_FOR_S = 2.0
WAIT_S = 4.0
# The roles that load a model.
ANSWERING = frozenset({"worker-gpu", "worker"})
# Those that write nothing to the archive.
ARCHIVELESS = frozenset({"relay", "web"})


class State(StrEnum):
    """How something is. What is degraded is to be mended, while work goes on or waits safely."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that was looked at, and how it is."""

    check: Check
    state: State

    def record(self) -> dict[str, str]:
        """Give what a page says of it."""
        check = self.check
        advice = {"advice": check.advice} if check.advice else {}
        return {"check": check.name, "state": self.state, "found": check.found, **advice}


def _sign(check: Check, otherwise: State = State.FAILING) -> Sign:
    return Sign(check, State.OK if check.healthy else otherwise)


class Health:
    """Looks after some roles that run here.

    Parameters
    ----------
    roles
        Those that should run.
    told
        Asks all processes of these roles.
    """

    def __init__(
        self, settings: Settings, roles: Sequence[str], told: Callable[[], list[Told]]
    ) -> None:
        self._roles, self._told = roles, told
        short_of_room = State.FAILING if "node" in roles else State.DEGRADED
        looks: list[tuple[str, Callable[[], Check], State]] = [
            ("database", lambda: check_database(settings), State.FAILING),
            ("broker", lambda: check_broker(settings), State.DEGRADED),
        ]
        if set(roles) - ARCHIVELESS:
            looks += [
                ("archive", lambda: check_archive(settings), State.FAILING),
                ("room", lambda: check_room(settings), short_of_room),
            ]
        self._looks = [
            (name, Looked(look, GOOD_FOR_S, WAIT_S), otherwise) for name, look, otherwise in looks
        ]

    def alive(self) -> Page:
        """Say whether all roles live and their main loops turn."""
        return page_of(_beats(self._roles, self._told()))

    def ready(self) -> Page:
        """Say whether all roles can do their work now."""
        told = self._told()
        signs = [*_beats(self._roles, told), *_models(self._roles, told)]
        signs += [self._looked(*each) for each in self._looks]
        return page_of(signs)

    def _looked(self, name: str, look: Looked[Check], otherwise: State) -> Sign:
        advice = ADVICE.get(name, ADVICE["archive"])
        try:
            return _sign(look(), otherwise)
        except TimeoutError:
            return _sign(Check(name, f"no answer within {WAIT_S:g} s", advice), otherwise)
        except ConfigurationError as error:
            return _sign(Check(name, "not usable", str(error)), otherwise)
        except Exception as error:  # noqa: BLE001  whatever it is, the page says so
            return _sign(Check(name, f"failed with {type(error).__name__}", advice), otherwise)


def page_of(signs: Iterable[Sign]) -> Page:
    """Make a page of signs: 200, or 503 when any is failing."""
    found = list(signs)
    state = max((sign.state for sign in found), key=list(State).index, default=State.OK)
    body = {"state": state, "checks": [sign.record() for sign in found]}
    status = HTTPStatus.SERVICE_UNAVAILABLE if state is State.FAILING else HTTPStatus.OK
    return Page(json.dumps(body, indent=2).encode() + b"\n", "application/json", status)


def _beats(roles: Sequence[str], told: Iterable[Told]) -> Iterator[Sign]:
    beats = {each.role: each.beat_s for each in told if each.beat_s is not None}
    for role in roles:
        beat_s = beats.get(role)
        if beat_s is None:
            advice = "it starts, or it died or hangs: see its log; it is to be started again"
            yield _sign(Check(role, "does not answer", advice))
        else:
            hangs = beat_s > BEAT_LIMIT_S
            advice = "it hangs: see its log, and start it again" if hangs else ""
            yield _sign(Check(role, f"its main loop turned {beat_s:.0f} s ago", advice))


def _models(roles: Sequence[str], told: Iterable[Told]) -> Iterator[Sign]:
    if ANSWERING.isdisjoint(roles):
        return
    models = sorted({each.facts["model"] for each in told if "model" in each.facts})
    advice = "" if models else "it is being loaded, or cannot be: see the log, or ask the doctor"
    yield _sign(Check("model", ", ".join(models) or "none is loaded", advice))


def check_database(settings: Settings) -> Check:
    """Look whether the database answers with the schema that this version needs."""
    from worker.database import READS_ONLY, build_engine, head_revision, require_schema

    engine = build_engine(settings.database_url)
    try:
        require_schema(engine.execution_options(**READS_ONLY))
    finally:
        engine.dispose()
    return Check("database", f"answers, at revision {head_revision()}")


def check_archive(settings: Settings) -> Check:
    """Look whether the archive is there, and may be written to."""
    archive = archive_of(settings)
    place = archive.place
    if not archive.is_there():
        missing = "mount its disk, or start a node"
        if isinstance(settings.archive, Bucket):
            missing = f"see that the store answers, and start a node; {ADVICE['archive']}"
        return Check("archive", f"{place} is not the archive", missing)
    # Whether a bucket takes anything is asked by `cxr-worker doctor` alone, as each answer costs.
    if not isinstance(settings.archive, Bucket) and not os.access(place, os.W_OK | os.X_OK):
        return Check("archive", f"{place} may not be written to", ADVICE["archive"])
    return Check("archive", f"{place} is there")


def check_room(settings: Settings) -> Check:
    """Look whether instances would be refused for lack of room."""
    free = archive_of(settings).free_bytes()
    lacks = free < settings.archive_reserve_mb * 1_000_000
    advice = "make room: below CXR_ARCHIVE_RESERVE_MB instances are refused with 0xA700"
    return Check("room", f"{free / 1e9:.1f} GB free", advice if lacks else "")
