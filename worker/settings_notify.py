"""Settings of notices about positive studies: a part of `worker.settings.Settings`.

All of it is off by default, and no notice names anybody unless the site says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from dicom_node.errors import ConfigurationError
from worker.settings_paths import require_pair, whole
from worker.settings_values import Receiver
from worker.settings_web import is_loopback


class Target(StrEnum):
    """Who may be told; the name is also that in the database."""

    WEBHOOK = "webhook"
    HL7 = "hl7"


class NotifyField(StrEnum):
    """What a notice may say of whose study it is, if the site chooses so."""

    ACCESSION_NUMBER = "accession_number"
    PATIENT_ID = "patient_id"
    PATIENT_NAME = "patient_name"
    PATIENT_BIRTH_DATE = "patient_birth_date"
    PATIENT_SEX = "patient_sex"
    STUDY_INSTANCE_UID = "study_instance_uid"
    STUDY_DATE = "study_date"
    REPORT_UID = "report_uid"


@dataclass(frozen=True, slots=True)
class Hl7Destination:
    """Where HL7 messages go, by MLLP.

    Attributes
    ----------
    host, port
        Of the receiver.
    tls : bool
        Whether to connect with TLS.
    """

    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, value: object) -> object:
        """Read ``mllp://host:port`` or ``mllps://host:port``."""
        if not isinstance(value, str):
            return value
        scheme, _, address = value.strip().partition("://")
        if scheme.lower() not in ("mllp", "mllps"):
            raise ValueError("must be mllp://host:port, or mllps://host:port for TLS")
        receiver = Receiver.parse(address.removesuffix("/"))
        assert isinstance(receiver, Receiver)  # of a text it makes nothing else
        return cls(receiver.host, receiver.port, scheme.lower() == "mllps")

    def __str__(self) -> str:
        """Return the form that `parse` reads."""
        return f"mllp{'s' if self.tls else ''}://{Receiver(self.host, self.port)}"


def _fields(value: object) -> object:
    """Read ``accession_number,patient_id,…``."""
    if not isinstance(value, str):
        return value
    found = []
    for word in (part.strip() for part in value.split(",") if part.strip()):
        if word not in list(NotifyField):
            raise ValueError(f"{word!r} is no field; there are {', '.join(NotifyField)}")
        found.append(NotifyField(word))
    return tuple(dict.fromkeys(found))


NotifyFields = Annotated[tuple[NotifyField, ...], NoDecode, BeforeValidator(_fields)]
Hl7Receiver = Annotated[Hl7Destination | None, BeforeValidator(Hl7Destination.parse)]
# MSH-3 to MSH-6 are of the data type HD, whose first component has 20 characters.
MOST_NAME: Final = 20


class NotifySettings(BaseSettings):
    """Who is told at once of a positive study, how, and what."""

    webhook_url: str = Field(
        "",
        description="Who is told of a positive study by HTTP POST, such as "
        "https://alerts.example.org/cxr. Default: nobody.",
    )
    webhook_secret_file: Path | None = Field(
        None,
        description="File of the secret that signs what goes to CXR_WEBHOOK_URL: 24 bytes or more "
        "in base64, one secret a line; with several, each signs.",
    )
    webhook_plaintext: bool = Field(
        False,
        description="Whether CXR_WEBHOOK_URL may be http:// to another machine, for all to read.",
    )
    hl7_destination: Hl7Receiver = Field(
        None,
        description="Who is told of a positive study by an HL7 v2 message (ORU^R01): "
        "mllp://host:port, or mllps://host:port for TLS. Default: nobody.",
    )
    hl7_receiving_application: str = Field(
        "", max_length=MOST_NAME, description="Receiving Application (MSH-5) of HL7 messages."
    )
    hl7_receiving_facility: str = Field(
        "", max_length=MOST_NAME, description="Receiving Facility (MSH-6) of HL7 messages."
    )
    hl7_sending_facility: str = Field(
        "",
        max_length=MOST_NAME,
        description="Sending Facility (MSH-4) of HL7 messages; MSH-3 is CXR_AE_TITLE.",
    )
    notify_fields: NotifyFields = Field(
        (),
        description="What notices say of whose study it is, of accession_number, patient_id, "
        "patient_name, patient_birth_date, patient_sex, study_instance_uid, study_date and "
        "report_uid, separated by commas. Default: nothing.",
    )
    notify_authority: Path | None = Field(
        None,
        description="Certificates that vouch for who is told over TLS, a PEM file. Default: those "
        "that this machine trusts.",
    )
    notify_certificate: Path | None = Field(
        None, description="Our certificate for who is told over TLS, if they want one, a PEM file."
    )
    notify_key: Path | None = Field(
        None, description="Private key of CXR_NOTIFY_CERTIFICATE, a PEM file without a password."
    )

    @property
    def targets(self) -> tuple[Target, ...]:
        """Who is told of a positive study."""
        return tuple(self._targets())

    def _targets(self) -> Iterator[Target]:
        if self.webhook_url:
            yield Target.WEBHOOK
        if self.hl7_destination is not None:
            yield Target.HL7

    @property
    def notify_files(self) -> tuple[Path | None, Path | None, Path | None]:
        """Authority, certificate and key of TLS with who is told, absolute where they are set."""
        names = (self.notify_authority, self.notify_certificate, self.notify_key)
        authority, certificate, key = (path and whole(path) for path in names)
        return authority, certificate, key

    @field_validator("webhook_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        """Check what does not depend on other settings; what is wrong is not repeated."""
        url = None
        with suppress(ValueError):
            split = urlsplit(value)
            url = split if split.port != 0 else None
        if value and (url is None or url.scheme not in ("https", "http") or not url.hostname):
            raise ValueError("must be a URL such as https://alerts.example.org/cxr")
        if url is not None and (url.username or url.password or url.fragment):
            raise ValueError("must be without user, password and #; requests are signed instead")
        if not value.isascii() or any(each.isspace() for each in value):
            raise ValueError("must be in ASCII and without blanks")
        return value

    @model_validator(mode="after")
    def _webhook_is_whole(self) -> NotifySettings:
        if not self.webhook_url:
            return self
        url = urlsplit(self.webhook_url)
        plain = url.scheme == "http" and not is_loopback(url.hostname or "")
        if plain and not self.webhook_plaintext:
            raise ConfigurationError(
                "CXR_WEBHOOK_URL",
                "is http:// to another machine, where others may read it: make it https://, or set "
                "CXR_WEBHOOK_PLAINTEXT=on",
            )
        if self.webhook_secret_file is None:
            raise ConfigurationError(
                "CXR_WEBHOOK_SECRET_FILE",
                "is not set; CXR_WEBHOOK_URL needs it, so that its receiver knows us from others: "
                "`openssl rand -base64 32` makes a secret",
            )
        return self

    @model_validator(mode="after")
    def _notify_files_come_in_pairs(self) -> NotifySettings:
        require_pair(self, "notify")
        return self
