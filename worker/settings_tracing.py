"""Settings of traces: a part of `worker.settings.Settings`."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from dicom_node.errors import ConfigurationError
from worker.settings_paths import whole

ENDPOINT, HEADERS_FILE = "CXR_OTLP_ENDPOINT", "CXR_OTLP_HEADERS_FILE"
# What OTLP adds to the address of a collector (OTLP 1.x, "OTLP/HTTP Request").
TRACES_PATH = "/v1/traces"
# RFC 9110 5.1 and 5.5, as far as anybody needs it.
_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*:\s*([\x21-\x7e][\x20-\x7e]*?)\s*")


class TracingSettings(BaseSettings):
    """Where traces go, and of how many studies."""

    otlp_endpoint: str = Field(
        "",
        description="Collector of OpenTelemetry traces, by OTLP over HTTP, such as "
        "http://127.0.0.1:4318. Default: no traces.",
    )
    otlp_headers_file: Path | None = Field(
        None,
        description="File of headers for CXR_OTLP_ENDPOINT, such as Authorization: Bearer …, one "
        "a line. Default: none.",
    )
    traces_sample: float = Field(
        1,
        ge=0,
        le=1,
        description="Part of the studies that is traced, from 0 to 1; the same for every role.",
    )

    @property
    def otlp_traces_url(self) -> str:
        """Where the collector takes traces: an address without a path is that of OTLP."""
        parts = urlsplit(self.otlp_endpoint)
        return parts._replace(path=parts.path.rstrip("/") or TRACES_PATH).geturl()

    def otlp_headers(self) -> dict[str, str]:
        """Read what the collector wants to be told with each request.

        Raises
        ------
        ConfigurationError
            When the file cannot be read, or a line of it is no header; that is not repeated.
        """
        if self.otlp_headers_file is None:
            return {}
        path = whole(self.otlp_headers_file)
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            words = getattr(error, "strerror", None) or "it is not text"
            raise ConfigurationError(HEADERS_FILE, f"{path} cannot be read: {words}") from None
        headers = {}
        for number, line in enumerate(lines, 1):
            found = _HEADER.fullmatch(line.strip())
            if found:
                headers[found[1]] = found[2]
            elif line.strip():
                raise ConfigurationError(
                    HEADERS_FILE, f"line {number} of {path} is no header; write Name: value"
                )
        return headers

    @model_validator(mode="after")
    def _endpoint_is_an_address(self) -> TracingSettings:
        if self.otlp_endpoint and not _is_address(self.otlp_endpoint):
            # Not repeated, as it may hold a password.
            raise ConfigurationError(
                ENDPOINT, "must be http://host:port or https://host:port, without user, password "
                f"and query, such as http://127.0.0.1:4318; secrets go into {HEADERS_FILE}"
            )  # fmt: skip
        return self


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  it is read when asked for
    except ValueError:
        return False
    more = parts.query or parts.fragment or "@" in parts.netloc
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not more
