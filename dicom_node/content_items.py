"""Content items of structured reports as bytes, by value type.

References
----------
DICOM PS3.3 C.17.3 (SR Document Content), C.18 (Content Macros)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from pydicom.sr.coding import Code

from dicom_node import codes
from dicom_node.encoding import Value, item
from dicom_node.sentence import plain

# PS3.3 Table C.17.3-8, Relationship Type.
CONTAINS: Final = "CONTAINS"
HAS_CONCEPT_MOD: Final = "HAS CONCEPT MOD"
HAS_OBS_CONTEXT: Final = "HAS OBS CONTEXT"
SELECTED_FROM: Final = "SELECTED FROM"


@lru_cache(maxsize=256)
def coded(code: Code) -> bytes:
    """Encode a code as the item of a code sequence (PS3.3 8.8)."""
    return item(
        CodeValue=code.value,
        CodingSchemeDesignator=code.scheme_designator,
        CodeMeaning=code.meaning,
    )


def _content_item(relationship: str, value_type: str, name: Code, **values: Value) -> bytes:
    return item(
        RelationshipType=relationship,
        ValueType=value_type,
        ConceptNameCodeSequence=[coded(name)],
        **values,
    )


def container(name: Code, content: Sequence[bytes], template: str = "") -> bytes:
    """Encode a CONTAINER (C.18.8), with its template of PS3.16 if that is to be told."""
    told = {"ContentTemplateSequence": [template_item(template)]} if template else {}
    return _content_item(
        CONTAINS, "CONTAINER", name, ContinuityOfContent="CONTINUOUS", ContentSequence=content,
        **told,
    )  # fmt: skip


def template_item(template: str) -> bytes:
    """Encode what names a template (C.18.8.1.2)."""
    return item(MappingResource="DCMR", TemplateIdentifier=template)


@lru_cache(maxsize=256)
def code(relationship: str, name: Code, value: Code) -> bytes:
    """Encode a CODE (C.18.1)."""
    return _content_item(relationship, "CODE", name, ConceptCodeSequence=[coded(value)])


def text(relationship: str, name: Code, value: str) -> bytes:
    """Encode a TEXT (C.17.3.2): our own words, the same in every character set."""
    return _content_item(relationship, "TEXT", name, TextValue=plain(value))


def uid_reference(relationship: str, name: Code, uid: str) -> bytes:
    """Encode a UIDREF (C.17.3.2)."""
    return _content_item(relationship, "UIDREF", name, UID=uid)


def percentage(name: Code, value: float) -> bytes:
    """Encode a NUM (C.18.1) of what is contained, in percent."""
    measured = item(
        NumericValue=str(value),
        FloatingPointValue=struct.pack("<d", value),
        MeasurementUnitsCodeSequence=[coded(codes.PERCENT)],
    )
    return _content_item(CONTAINS, "NUM", name, MeasuredValueSequence=[measured])


def image(relationship: str, name: Code, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Encode an IMAGE (C.18.4)."""
    return _content_item(
        relationship, "IMAGE", name,
        ReferencedSOPSequence=[reference(sop_class_uid, sop_instance_uid)],
    )  # fmt: skip


def reference(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Encode a reference to an instance (PS3.3 Table 10-11)."""
    return item(ReferencedSOPClassUID=sop_class_uid, ReferencedSOPInstanceUID=sop_instance_uid)


def outline(name: Code, points: Sequence[tuple[int, int]], source: bytes) -> bytes:
    """Encode an SCOORD (C.18.6), a closed polyline in the image that `source` names."""
    flat = [float(number) for point in points for number in point]
    return _content_item(
        CONTAINS, "SCOORD", name, GraphicType="POLYLINE",
        GraphicData=struct.pack(f"<{len(flat)}f", *flat), ContentSequence=[source],
    )  # fmt: skip
