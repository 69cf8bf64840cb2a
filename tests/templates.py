"""The rows of the templates that our documents are made of, as data (DICOM PS3.16 Annex A)."""

from __future__ import annotations

from typing import NamedTuple

from pydicom.dataset import Dataset

MANY = 99


class Row(NamedTuple):
    """A row of a template: what may stand there, how often, and with which rows below it."""

    relationship: str
    value_type: str
    concept: str | None  # code value; "" is any, None is that there must be none
    least: int
    most: int
    below: tuple[Row, ...] = ()


def _modifier(value_type: str, concept: str, least: int, most: int) -> Row:
    return Row("HAS CONCEPT MOD", value_type, concept, least, most)


def _context(value_type: str, concept: str, least: int) -> Row:
    return Row("HAS OBS CONTEXT", value_type, concept, least, 1)


_LANGUAGE = _modifier("CODE", "121049", 1, 1)  # TID 1204
_DEVICE_OBSERVER = (  # TID 1002, TID 1004
    _context("CODE", "121005", 1),
    _context("UIDREF", "121012", 1),
    _context("TEXT", "121013", 0),
    _context("TEXT", "121014", 0),
    _context("TEXT", "121015", 0),
    _context("TEXT", "121016", 0),
)
_TRACKING = (_context("TEXT", "112039", 1), _context("UIDREF", "112040", 1))
_FINDING = Row("CONTAINS", "CODE", "121071", 0, 1)
_FINDING_SITE = _modifier("CODE", "363698007", 0, MANY)
_ALGORITHM = (  # TID 4019
    _modifier("TEXT", "111001", 1, 1),
    _modifier("TEXT", "111003", 1, 1),
    _modifier("TEXT", "111002", 0, MANY),
    _modifier("CODE", "111000", 0, 1),
)
_MEASUREMENT = Row("CONTAINS", "NUM", "", 0, MANY)  # TID 300 and TID 1419, without rows below
_EVALUATIONS = (Row("CONTAINS", "CODE", "", 0, MANY), Row("CONTAINS", "TEXT", "", 0, MANY))
_SELECTED_IMAGE = Row("SELECTED FROM", "IMAGE", "", 1, 1)
_LIBRARY_GROUP = Row(
    "CONTAINS", "CONTAINER", "126200", 1, MANY, (Row("CONTAINS", "IMAGE", "", 1, MANY),)
)
_GROUP = Row("CONTAINS", "CONTAINER", "125007", 1, MANY)

GROUPS: dict[str, tuple[Row, ...]] = {
    "1410": (
        *_TRACKING,
        _FINDING,
        Row("CONTAINS", "SCOORD", "111030", 1, 1, (_SELECTED_IMAGE,)),
        _FINDING_SITE,
        *_ALGORITHM,
        _MEASUREMENT,
        *_EVALUATIONS,
    ),
    "1501": (
        *_TRACKING,
        _FINDING,
        _FINDING_SITE,
        *_ALGORITHM,
        _MEASUREMENT,
        Row("CONTAINS", "IMAGE", "", 0, MANY),
        *_EVALUATIONS,
    ),
}
ROOTS: dict[str, tuple[Row, ...]] = {
    "1500": (
        _LANGUAGE,
        *_DEVICE_OBSERVER,
        _modifier("CODE", "121058", 1, MANY),
        Row("CONTAINS", "CONTAINER", "111028", 1, 1, (_LIBRARY_GROUP,)),  # TID 1600
        Row("CONTAINS", "TEXT", "121111", 1, 1),  # an extension of ours: the summary
        Row("CONTAINS", "CONTAINER", "126010", 1, 1, (_GROUP,)),
    ),
    "2010": (
        _LANGUAGE,
        *_DEVICE_OBSERVER,
        Row("CONTAINS", "TEXT", "113012", 1, 1),
        Row("CONTAINS", "IMAGE", None, 1, MANY),
    ),
}


def template_errors(ds: Dataset) -> list[str]:
    """Return what in a document is not as its template has it, order included."""
    return _errors(ds, ROOTS[_template(ds)])


def _template(item: Dataset) -> str:
    sequence = item.get("ContentTemplateSequence")
    return str(sequence[0].TemplateIdentifier) if sequence else ""


def _concept(item: Dataset) -> str | None:
    sequence = item.get("ConceptNameCodeSequence")
    return str(sequence[0].CodeValue) if sequence else None


def _fits(item: Dataset, row: Row) -> bool:
    if (item.get("RelationshipType"), item.get("ValueType")) != row[:2]:
        return False
    return _concept(item) is not None if row.concept == "" else _concept(item) == row.concept


def _errors(parent: Dataset, rows: tuple[Row, ...]) -> list[str]:
    rest = list(parent.get("ContentSequence") or [])
    errors = []
    for row in rows:
        taken = []
        while rest and len(taken) < row.most and _fits(rest[0], row):
            taken.append(rest.pop(0))
        if len(taken) < row.least:
            errors.append(f"{row[:3]}: {len(taken)} of at least {row.least}")
        for item in taken:
            errors += _errors(item, GROUPS.get(_template(item), row.below))
    return errors + [f"not in the template, or not here: {_concept(item)}" for item in rest]
