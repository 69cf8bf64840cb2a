"""Makes pydicom read what peers really send; import it for its effect.

What a peer sent is read as it is: finding fault with it is not our task, and an invalid date, or
an attribute of a VR that does not exist, must not keep an image from being assessed.
"""

from __future__ import annotations

from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.hooks import hooks, raw_element_vr
from pydicom.valuerep import VR

_SPECIFIC_CHARACTER_SET = 0x00080005
_VRS = frozenset(str(vr.value) for vr in VR)


def _existing_vr(raw: Any, data: dict[str, Any], **kwargs: Any) -> None:
    """Look up an element's VR; one that does not exist gives way to the dictionary's.

    So does any other of the Specific Character Set, which every text is read by.
    """
    raw_element_vr(raw, data, **kwargs)
    if data["VR"] not in _VRS or raw.tag == _SPECIFIC_CHARACTER_SET:
        data["VR"] = dictionary_VR(raw.tag) if dictionary_has_tag(raw.tag) else "UN"


config.settings.reading_validation_mode = config.IGNORE
hooks.register_callback("raw_element_vr", _existing_vr)
