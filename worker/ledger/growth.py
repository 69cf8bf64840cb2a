"""How much has come in since, for who knows how large the archive was before."""

from __future__ import annotations

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from worker.tables import Base

instances = Base.metadata.tables["instances"]


def last_instance(session: Session) -> int:
    """Give the id of the instance that was entered last; 0 where there is none."""
    return int(session.scalar(_LAST) or 0)


def sizes_after(session: Session, instance_id: int, limit: int) -> list[tuple[int, int]]:
    """Give the ids and sizes of the instances that were entered after one, the first of them.

    Also of those that were removed since: `bytes_removed` counts them as well.
    """
    rows = session.execute(_SIZES, {"after": instance_id, "limit": limit})
    return [(row.id, row.size_bytes) for row in rows]


_LAST = select(func.max(instances.c.id))
_SIZES = (
    select(instances.c.id, instances.c.size_bytes)
    .where(instances.c.id > bindparam("after"))
    .order_by(instances.c.id)
    .limit(bindparam("limit"))
)
