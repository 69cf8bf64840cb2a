"""How Celery speaks to the broker, by the settings.

Messages are doorbells, which the relay rings again: they are not kept on a disk, nobody waits for a
broker's word that it has one, and one that is away is given up at once.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

from worker.settings_paths import whole

if TYPE_CHECKING:
    from kombu import Connection

    from worker.settings import Settings

CONNECT_S: Final = 2
ANSWER_S: Final = 10
# They keep a message to a broker that is away from being tried for seconds.
_GIVE_UP_SOON: Final = {
    "max_retries": 1,
    "interval_start": 0.1,
    "interval_step": 0.1,
    "interval_max": 0.5,
}


def is_redis(settings: Settings) -> bool:
    """Tell whether the broker is a Redis, and not RabbitMQ."""
    return not settings.broker_scheme.startswith("amqp")


def holds_bells(settings: Settings) -> bool:
    """Tell whether bells for later are better kept by who rings them.

    What a worker of RabbitMQ has in hand until its time counts against what it may have in hand at
    all; from version 4 on, that cannot be raised meanwhile: it would take nothing else.
    """
    return not is_redis(settings)


def celery_options(settings: Settings) -> dict[str, Any]:
    """Give what Celery must know of the broker."""
    tls = tls_options(settings)
    return {
        "broker_url": settings.broker_url,
        "broker_transport_options": transport_options(settings),
        "broker_connection_timeout": CONNECT_S,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_default_delivery_mode": "transient",
        **({"broker_use_ssl": tls} if tls else {}),
    }


def transport_options(
    settings: Settings, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S
) -> dict[str, Any]:
    """Give the options of kombu's transport.

    Parameters
    ----------
    connect_s, answer_s
        How long a connection and an answer are waited for, in seconds.
    """
    if not is_redis(settings):
        # Not `read_timeout`: a worker reads for as long as nobody rings; keep-alives tell it of a
        # broker that is gone.
        return {"confirm_publish": False, "write_timeout": answer_s, **_GIVE_UP_SOON}
    limits = {"socket_connect_timeout": connect_s, "socket_timeout": answer_s}
    options = {"ack_emulation": False, **limits, **_GIVE_UP_SOON}
    if settings.broker_scheme != "sentinel":
        return options
    return {
        **options,
        "master_name": settings.broker_master,
        # Those of the sentinels themselves.
        "sentinel_kwargs": {
            **limits,
            "password": settings.broker_sentinel_password or None,
            **({"ssl": True, **tls_options(settings)} if tls_options(settings) else {}),
        },
    }


def tls_options(settings: Settings) -> dict[str, Any]:
    """Give the options of TLS, as the transport spells them; none where it is not wanted."""
    scheme = settings.broker_scheme
    if scheme not in ("rediss", "amqps") and settings.broker_authority is None:
        return {}
    files = {
        "ca_certs": settings.broker_authority,
        "certfile": settings.broker_certificate,
        "keyfile": settings.broker_key,
    }
    given = {name: str(whole(path)) for name, path in files.items() if path is not None}
    if scheme == "amqps":
        # Of None the transport makes the name of the host.
        return {**given, "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    options = {"cert_reqs": "required", "check_hostname": True, **given}
    return {f"ssl_{name}": value for name, value in options.items()}


def connection(settings: Settings, timeout_s: float) -> Connection:
    """Make a connection for a look at the broker; it is not tried yet."""
    from kombu import Connection

    return Connection(
        settings.broker_url,
        ssl=tls_options(settings) or False,
        connect_timeout=timeout_s,
        transport_options=transport_options(settings, timeout_s, timeout_s),
    )


def count_waiting(channel: Any, queue: str) -> int:
    """Count the messages that wait in a queue, which is made as Celery makes it where it lacks."""
    declared = channel.queue_declare(queue, durable=True, auto_delete=False)
    return int(declared.message_count)
