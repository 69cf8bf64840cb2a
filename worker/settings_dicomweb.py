"""Settings of DICOMweb: a part of `worker.settings.Settings`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from worker.settings_values import Origins


class DicomwebSettings(BaseSettings):
    """Who may read by DICOMweb from a page of their own, and how much is taken at once."""

    dicomweb_origins: Origins = Field(
        (),
        description="Origins of viewers whose pages may read by DICOMweb with a token, such as "
        "https://ohif.example.org. Default: none but our own.",
    )
    dicomweb_store_mb: int = Field(
        512,
        ge=0,
        le=65536,
        description="Largest request to store by DICOMweb, in MB. 0: nothing is stored so.",
    )
