"""A look at one thing that the product stands on: what was found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker import broker
from worker.settings import Settings

BROKER_TIMEOUT_S = 3
EXPIRES_SOON = timedelta(days=30)
ADVICE = {
    "database": "check CXR_DATABASE_URL and that the server runs and lets us in",
    "broker": "start the broker, or correct CXR_BROKER_URL; meanwhile nothing is lost, only late",
    "archive": "check CXR_ARCHIVE and who may write there",
    "deliveries": "see what is said of the database",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `advice` is empty when all is well."""

    name: str
    found: str
    advice: str = ""

    @property
    def healthy(self) -> bool:
        """Whether nothing has to be done."""
        return not self.advice


def check_broker(settings: Settings) -> Check:
    """Look whether the broker answers."""
    from kombu.exceptions import OperationalError

    with broker.connection(settings, BROKER_TIMEOUT_S) as connection:
        shown = connection.as_uri()
        try:
            connection.ensure_connection(
                max_retries=1, interval_start=0.2, timeout=BROKER_TIMEOUT_S
            )
            broker.count_waiting(connection.default_channel, "gpu")
        except (OperationalError, OSError) as error:
            started = " (`cxr-worker up` starts it)" if settings.embedded_broker else ""
            return Check(
                "broker", f"{shown} does not answer: {type(error).__name__}",
                ADVICE["broker"] + started,
            )  # fmt: skip
    return Check("broker", f"{shown} answers")


def advice_on_expiry(expiry: datetime, setting: str) -> str:
    """Say what to do about a certificate; nothing while it lasts."""
    left = expiry - datetime.now(UTC)
    if left > EXPIRES_SOON:
        return ""
    what = f"it expires in {left.days} days" if left.days >= 0 else "it has expired"
    return f"{what}: put a new one into {setting}"
