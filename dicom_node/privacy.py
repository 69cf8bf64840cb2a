"""Keeps patient data out of what the libraries log and warn; import it for its effect.

pynetdicom's debug lines print data sets, and pydicom quotes the values that it finds invalid, in
its log and in Python warnings. Those of S3 print what is sent, with its signature.
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
for _name in ("aiobotocore", "botocore", "fsspec", "s3fs"):
    logging.getLogger(_name).setLevel(logging.WARNING)
