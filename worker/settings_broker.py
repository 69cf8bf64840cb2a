"""Settings of the broker: a part of `worker.settings.Settings`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

from dicom_node.errors import ConfigurationError
from worker.settings_paths import require_pair

SCHEMES = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps")
# With these the files of TLS mean something; with sentinel they turn it on.
WITH_TLS = ("rediss", "amqps", "sentinel")


class BrokerSettings(BaseSettings):
    """Where messages go, and how others there are known."""

    broker_url: str = Field(
        "",
        description="Broker, such as redis://host:6379/0 or amqp://user:password@host//; rediss:// "
        "and amqps:// with TLS; sentinel://host:26379;sentinel://host:26379, all of them. Default: "
        "the socket of the Redis that `cxr-worker up` starts in CXR_HOME.",
    )
    broker_authority: Path | None = Field(
        None,
        description="Certificates of those who may vouch for the broker, a PEM file; with "
        "sentinel:// it turns TLS on. Default: those that the system trusts.",
    )
    broker_certificate: Path | None = Field(
        None, description="Our certificate for a broker that asks for one, a PEM file."
    )
    broker_key: Path | None = Field(
        None, description="Private key of CXR_BROKER_CERTIFICATE, a PEM file without a password."
    )
    broker_master: str = Field(
        "mymaster", min_length=1, description="Name of the master that the sentinels watch."
    )
    broker_sentinel_password: str = Field(
        "",
        description="Password of the sentinels themselves; that of Redis is in CXR_BROKER_URL. "
        "Default: none.",
    )

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str) -> str:
        if value:
            _check(value)
        return value.strip()

    @model_validator(mode="after")
    def _broker_tls_is_whole(self) -> BrokerSettings:
        require_pair(self, "broker")
        files = {
            "CXR_BROKER_AUTHORITY": self.broker_authority,
            "CXR_BROKER_CERTIFICATE": self.broker_certificate,
            "CXR_BROKER_KEY": self.broker_key,
        }
        given = [key for key, path in files.items() if path is not None]
        scheme = self.broker_scheme
        if given and scheme not in WITH_TLS:
            raise ConfigurationError(
                given[0],
                f"is set, but CXR_BROKER_URL begins with {scheme or 'redis+socket'}://, which is "
                "without TLS; let it begin with rediss://, amqps:// or sentinel://",
            )
        if scheme == "sentinel" and given and self.broker_authority is None:
            raise ConfigurationError(
                "CXR_BROKER_AUTHORITY", f"is not set, but {given[0]} is; with sentinel:// it is "
                "what turns TLS on",
            )  # fmt: skip
        return self

    @property
    def broker_scheme(self) -> str:
        """What the broker's URL begins with, before the colon."""
        return self.broker_url.partition("://")[0]


def _check(value: str) -> None:
    """Say what is wrong with a broker's URL, without repeating it: it may hold a password."""
    parts = [part.strip() for part in value.split(";")]
    schemes = {part.partition("://")[0] for part in parts}
    if not all("://" in part for part in parts) or not schemes <= set(SCHEMES):
        raise ValueError(f"must start with one of {' '.join(f'{each}://' for each in SCHEMES)}")
    if len(parts) > 1 and schemes != {"sentinel"}:
        raise ValueError("only sentinel:// may be several, separated by ;")
    for part in parts if "redis+socket" not in schemes else ():
        try:
            split = urlsplit(part)
            known = bool(split.hostname) and split.port != 0
        except ValueError:
            known = False
        if not known:
            raise ValueError(
                "needs a host, and a port of 1 to 65535 where one is given; characters such as / @ "
                ": # ; in a password are written as %2F %40 %3A %23 %3B"
            ) from None
