"""Keeps patient data out of what the DICOM libraries log and warn; import it for its effect.

pynetdicom's debug lines print data sets, and pydicom quotes the values that it finds invalid, in
its log and in Python warnings. What a peer sent is read as it is: finding fault with it is not
our task, and an invalid date must not stop an image from being stored.
"""

from __future__ import annotations

import logging
import warnings

from pydicom import config

config.settings.reading_validation_mode = config.IGNORE
warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)(\.|$)")
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
logging.getLogger("highdicom").setLevel(logging.WARNING)
logging.getLogger("pynetdicom").setLevel(logging.ERROR)
