"""What the lines of a log are about: fields that go along with whatever a thread does.

Whoever formats a line asks for them; the text of the line need not repeat them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_FIELDS: ContextVar[Mapping[str, str]] = ContextVar(
    "cxr_log_fields",
    default=MappingProxyType({}),
)


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Have the lines of this block be about these as well; never about a patient."""
    token = _FIELDS.set({**_FIELDS.get(), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def also_about(**fields: str) -> None:
    """Add what was only found out within a block of `about`; it ends with the block."""
    _FIELDS.set({**_FIELDS.get(), **fields})


def fields() -> Mapping[str, str]:
    """Give what this thread is about just now."""
    return _FIELDS.get()
