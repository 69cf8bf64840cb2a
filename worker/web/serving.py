"""Runs the web: over HTTP on this machine, or over TLS, or behind a proxy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

import uvicorn

from dicom_node.errors import ConfigurationError
from dicom_node.store import Store
from worker.access.admins import has_admin
from worker.access.attempts import Attempts
from worker.access.first import FirstToken
from worker.access.roles import LOCAL
from worker.access.sessions import end_all_of
from worker.audit import messages
from worker.audit.trail import Trail
from worker.database import SessionFactory
from worker.desk import Desk
from worker.settings import Settings
from worker.web.app import build
from worker.web.doors import Doors
from worker.web.patience import ImpatientProtocol
from worker.web.services import Announce, Services

if TYPE_CHECKING:
    from model.predict import ModelInfo
    from worker.oidc.elsewhere import Elsewhere

# How long answers that are under way may take when it is to end.
_GRACE_S = 5
# Requests at once; more are refused, so that none waits for ever.
_MOST_AT_ONCE = 200


def serve(
    desk: Desk,
    reading: SessionFactory,
    incoming: Store,
    announce: Announce,
    model_info: Callable[[], ModelInfo],
    on_ready: Callable[[], None],
    stopped: threading.Event,
    turned: Callable[[], None] = lambda: None,
) -> None:
    """Serve pages until `stopped`.

    Parameters
    ----------
    incoming, announce
        As `worker.web.services.Services` has them.
    on_ready
        Called when the port can be reached.
    turned
        Called again and again while it can.

    Raises
    ------
    ConfigurationError
        When others could reach it and nobody could sign in, or the port cannot be had, or a file
        cannot be read.
    """
    settings, sessions = desk.settings, desk.sessions
    first = FirstToken(settings.home)
    if not settings.is_web_for_us_alone:
        # Whoever came in on this machine alone, before there were users, is let in by nobody now.
        first.remove()
        with sessions() as session, session.begin():
            end_all_of(session, LOCAL)
    with reading() as session:
        if settings.is_web_for_us_alone:
            first.prepare(session)
        elif settings.oidc_issuer is None and not has_admin(session):
            raise ConfigurationError(
                "CXR_WEB_BIND",
                f"is {settings.web_bind}, which others can reach, and there is no administrator: "
                "add one, cxr-worker user add NAME --role admin, or set CXR_OIDC_ISSUER",
            )
    doors = Doors(
        sessions,
        reading,
        Attempts(),
        first,
        desk.clock,
        timedelta(minutes=settings.web_idle_min),
        timedelta(hours=settings.web_session_h),
    )
    elsewhere = _elsewhere(settings)
    hanging_up = nullcontext() if elsewhere is None else closing(elsewhere)
    with hanging_up, closing(Trail.of(settings, sends=True)) as trail:
        services = Services(desk, reading, doors, trail, incoming, announce, model_info, elsewhere)
        trail.record(messages.application_started())
        try:
            _run(settings, services, on_ready, stopped, turned)
        finally:
            trail.record(messages.application_stopped())


def _elsewhere(settings: Settings) -> Elsewhere | None:
    """Make what lets people sign in by a provider; its libraries are loaded for that alone."""
    if settings.oidc_issuer is None:
        return None
    from worker.oidc import elsewhere

    return elsewhere.Elsewhere.of(settings)


def _run(
    settings: Settings,
    services: Services,
    on_ready: Callable[[], None],
    stopped: threading.Event,
    turned: Callable[[], None],
) -> None:
    server = uvicorn.Server(_config(settings, services))
    thread = threading.Thread(target=server.run, name="web")
    thread.start()
    while not (server.started or stopped.wait(0.02)) and thread.is_alive():
        pass
    if server.started:
        on_ready()
    while thread.is_alive() and not stopped.wait(1):
        turned()
    server.should_exit = True
    thread.join(2 * _GRACE_S)
    if not server.started and not stopped.is_set():
        where = f"{settings.web_bind}:{settings.web_port}"
        raise ConfigurationError("CXR_WEB_PORT", f"{where} cannot be listened on")


def _config(settings: Settings, services: Services) -> uvicorn.Config:
    certificate, key = settings.web_files or (None, None)
    return uvicorn.Config(
        build(services, settings.web_hosts, tls_only=not settings.is_web_for_us_alone),
        http=ImpatientProtocol,
        host=settings.web_bind,
        port=settings.web_port or 0,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        proxy_headers=bool(settings.web_proxies),
        forwarded_allow_ips=[str(each) for each in settings.web_proxies],
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=_MOST_AT_ONCE,
        timeout_graceful_shutdown=_GRACE_S,
    )
