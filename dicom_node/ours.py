"""Knows what a cxr-worker made when it comes back: a PACS may route all of a study to us.

To assess our own pictures, or to report on reports, would never end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from dicom_node.contexts import REPORT_SOP_CLASSES

# Taken only to be recognised, as a sender may give up a whole study over one refusal. Of other
# makers we keep none.
DOCUMENT_SOP_CLASSES: Final[tuple[str, ...]] = (
    *REPORT_SOP_CLASSES,
    str(KeyObjectSelectionDocumentStorage),
)

# What we make. Images that `cxr-worker send` wraps are DX, and are to be assessed.
OUR_SOP_CLASSES: Final = frozenset({*DOCUMENT_SOP_CLASSES, str(SecondaryCaptureImageStorage)})

_MANUFACTURER: Final = "cxr-worker"  # findings.AlgorithmDevice


def is_ours(header: Mapping[str, str]) -> bool:
    """Tell whether some cxr-worker made an instance: a report, a flag or a picture.

    Parameters
    ----------
    header : mapping of str to str
        By keyword: SOPClassUID and Manufacturer, which our objects carry (PS3.3 C.7.5.1).
    """
    return header["SOPClassUID"] in OUR_SOP_CLASSES and header["Manufacturer"] == _MANUFACTURER
