"""What a database does to answer a statement, and whether it reads a table that grows for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event

from worker.tables import Base

# A row a model, a row a step that a person takes with one, and a row a destination that is away.
SMALL = {"models", "candidates", "model_events", "outages"}
GROWING = set(Base.metadata.tables) - SMALL
# Indexes of a few rows: to read all of them is what they are for.
OF_FEW = {"ix_jobs_dead", "ix_jobs_leased", "ix_studies_dotted", "ix_removals_unfinished"}
OF_SMALL = {
    "pk_models", "uq_models_digest", "pk_outages", "pk_candidates", "uq_candidates_digest",
    "pk_model_events",
}  # fmt: skip


@dataclass(frozen=True)
class Statement:
    """A statement as it went to the database, and what asked for it."""

    asker: str
    text: str
    parameters: Any


@contextmanager
def overheard(engine: Engine, asker: str, into: list[Statement]) -> Iterator[None]:
    """Write down the statements of this block."""

    def hear(_c: Any, _cursor: Any, text: str, parameters: Any, _x: Any, many: bool) -> None:
        first = parameters[0] if many and isinstance(parameters, list) else parameters
        into.append(Statement(asker, text, first))

    event.listen(engine, "before_cursor_execute", hear)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", hear)


def complaints(connection: Connection, statement: Statement, *, in_order: bool) -> list[str]:
    """Say where the plan of a statement reads a whole table that grows.

    Parameters
    ----------
    in_order
        Whether it may go along an index from its end, as it asks for the first of all rows, or of
        all of a kind.
    """
    if not re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", statement.text):
        return []  # such as BEGIN
    if connection.dialect.name == "sqlite":
        return _of_sqlite(connection, statement, in_order)
    return _of_postgresql(connection, statement, in_order)


# --- SQLite ----------------------------------------------------------------------------------


def _of_sqlite(connection: Connection, statement: Statement, in_order: bool) -> list[str]:
    explained = connection.exec_driver_sql(
        f"EXPLAIN QUERY PLAN {statement.text}", statement.parameters
    )
    steps = [row.detail for row in explained]
    sorts = any("TEMP B-TREE FOR ORDER BY" in step for step in steps)
    not_tables = SMALL | set(re.findall(r"\)\s+AS\s+(\w+)", statement.text))
    not_tables |= set(re.findall(r"(\w+)(?:\([\w, ]*\))?\s+AS\s+\(", statement.text))
    found = []
    for step in steps:
        if not in_order and step.endswith("(kind=?)"):
            found.append(step)
        scan = re.match(r"SCAN (\S+)(?: USING (?:COVERING )?INDEX (\S+))?", step)
        if not scan or scan[1].startswith("(") or scan[1] == "CONSTANT" or scan[1] in not_tables:
            continue
        if scan[2] in OF_FEW or (in_order and not sorts and "LIMIT" in statement.text):
            continue
        found.append(step)
    return found


# --- PostgreSQL ------------------------------------------------------------------------------


def _of_postgresql(connection: Connection, statement: Statement, in_order: bool) -> list[str]:
    """Look at the plan for these values, and at the one for any, which it may keep."""
    text, parameters = statement.text, statement.parameters
    plans = [connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}", parameters).scalar()]
    numbers = {name: f"${number}" for number, name in enumerate(parameters or {}, 1)}
    for_any = re.sub(r"%\((\w+)\)s", lambda found: numbers[found[1]], text).replace("%%", "%")
    cursor = psycopg.ClientCursor(connection.connection.dbapi_connection)
    cursor.execute(f"EXPLAIN (FORMAT JSON, GENERIC_PLAN) {for_any}")
    plans.append(cursor.fetchone()[0])
    return [each for (plan,) in plans for each in _walk(plan["Plan"], in_order)]


def _walk(node: dict[str, Any], in_order: bool) -> Iterator[str]:
    kind, index = node["Node Type"], node.get("Index Name", "")
    whole = {index} if in_order and "Filter" not in node else set()
    if kind == "Seq Scan" and node["Relation Name"] in GROWING:
        yield f"Seq Scan on {node['Relation Name']}"
    elif index and "Index Cond" not in node and index not in OF_FEW | OF_SMALL | whole:
        yield f"{kind} of all {index}"
    elif not in_order and re.fullmatch(r"\(\(kind\)::text = \S+\)", node.get("Index Cond", "")):
        yield f"{kind} of {index} by kind alone"
    in_order = in_order and kind not in {"Sort", "Aggregate"}
    for child in node.get("Plans", []):
        yield from _walk(child, in_order)
