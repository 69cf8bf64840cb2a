"""Where the archive is, a folder or a bucket, and what a bucket needs: a part of the settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(?:/[A-Za-z0-9!_.*'()-]+)*")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of S3, or of what speaks like it, and where in it the archive is.

    Attributes
    ----------
    root : str
        ``bucket/prefix``.
    """

    root: str

    @classmethod
    def parse(cls, text: str) -> Bucket:
        """Read ``s3://bucket/prefix``.

        Raises
        ------
        ValueError
            When it is none.
        """
        scheme, _, root = text.partition("://")
        if scheme != "s3":
            raise ValueError(f"must be a folder or s3://bucket/prefix; {scheme}:// is not known")
        name, _, prefix = root.rstrip("/").partition("/")
        if not _BUCKET.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a bucket: it must be s3://bucket/prefix")
        if prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/"))):
            raise ValueError("the prefix may have letters, digits and !_.*'()- between slashes")
        return cls(root.rstrip("/"))

    def __str__(self) -> str:
        """Return the URL."""
        return f"s3://{self.root}"


def _place(value: Any) -> Any:
    return Bucket.parse(value) if isinstance(value, str) and "://" in value else value


Place = Annotated[Path | Bucket, BeforeValidator(_place)]


class ObjectSettings(BaseSettings):
    """What an archive in a bucket needs; credentials are in ``AWS_…``, where the SDK finds them."""

    spool: Path | None = Field(
        None,
        description="Folder for large instances on their way to a CXR_ARCHIVE that is a bucket; "
        "CXR_ARCHIVE_RESERVE_MB stays free there. Default: CXR_HOME/spool.",
    )
    s3_endpoint: str = Field(
        "",
        description="URL of what speaks S3, such as https://minio.example.org:9000, where "
        "CXR_ARCHIVE is a bucket. Default: AWS_ENDPOINT_URL_S3, or Amazon's.",
    )

    @field_validator("s3_endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be a URL such as https://minio.example.org:9000")
        if parts.username or parts.password:
            raise ValueError("must hold no password: credentials are in AWS_ACCESS_KEY_ID and "
                             "AWS_SECRET_ACCESS_KEY")  # fmt: skip
        return value.rstrip("/")
