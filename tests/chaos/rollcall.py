"""Does every worker still listen? One that does not is made up for by the others, and not seen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from celery import Celery

from tests.chaos.supervisor import Role

BELLS_AT_ONCE = 12


def silent_workers(
    broker_url: str, workers: Mapping[str, Sequence[tuple[str, Role]]], limit_s: float
) -> list[str]:
    """Ring until each worker has taken a message; name those that have not.

    Parameters
    ----------
    workers
        The workers of each bell: a task of which one too many does no harm, and its queue.
    """
    app = Celery(broker=broker_url)
    left = {
        role.name: (bell, queue, role, _taken(role, bell))
        for bell, listed in workers.items()
        for queue, role in listed
    }
    deadline = time.monotonic() + limit_s
    with app.connection_for_write() as connection:
        while left and time.monotonic() < deadline:
            for bell, queue in {(bell, queue) for bell, queue, *_ in left.values()}:
                for _ in range(BELLS_AT_ONCE):
                    app.send_task(bell, queue=queue, connection=connection)
            time.sleep(1)
            left = {
                name: (bell, queue, role, before)
                for name, (bell, queue, role, before) in left.items()
                if _taken(role, bell) <= before
            }
    return sorted(left)


def _taken(role: Role, bell: str) -> int:
    """Count the messages of which a worker's log says that it took them (at the level DEBUG)."""
    return role.log_text().count(f"(args:('{bell}'")
