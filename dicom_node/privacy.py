"""Keeps patient data out of what the DICOM libraries log and warn; import it for its effect.

pynetdicom's debug lines print data sets, and pydicom quotes the values that it finds invalid, in
its log and in Python warnings.
"""

from __future__ import annotations

import logging
import warnings

import dicom_node.tolerance  # noqa: F401

warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)(\.|$)")
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
logging.getLogger("highdicom").setLevel(logging.WARNING)
# What it logs as an error, dicom_node says in a sentence.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
