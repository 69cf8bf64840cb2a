"""What the pages work with, passed in by whoever starts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from dicom_node.store import Store
from worker.audit.schema import Message
from worker.database import SessionFactory
from worker.desk import Bell, Desk
from worker.web.doors import Doors

if TYPE_CHECKING:
    from model.predict import ModelInfo
    from worker.oidc.elsewhere import Elsewhere


class Trail(Protocol):
    """Where it is written down who saw and did what; :class:`worker.audit.trail.Trail` is one."""

    def record(self, *messages: Message) -> None:
        """Write messages down, durably, or raise `worker.audit.trail.NotRecorded`."""
        ...


class Announce(Protocol):
    """What rings a bell."""

    def __call__(self, bell: Bell, at: datetime | None = None) -> None:
        """Ring it, now or at a time to come."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What stands behind the pages.

    Attributes
    ----------
    reading
        Sessions that hold up no writer.
    doors
        Who may come in.
    incoming
        Where what comes by the web is kept: the archive, but for the space that reports may use.
    announce
        Rings a bell where work became due; waits for no broker.
    model_info
        What the model says of itself that answers now.
    elsewhere
        Lets people sign in by a provider; None when there are local users alone.
    """

    desk: Desk
    reading: SessionFactory
    doors: Doors
    trail: Trail
    incoming: Store
    announce: Announce
    model_info: Callable[[], ModelInfo]
    elsewhere: Elsewhere | None = None
