"""Settings of the web pages and of the audit trail: a part of `worker.settings.Settings`."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from dicom_node.errors import ConfigurationError
from worker.settings_paths import require_pair, whole
from worker.settings_values import HostNames, Networks, PortOrOff, SyslogReceiver

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class WebSettings(BaseSettings):
    """Where the web pages are, who may reach them, and where it is written down."""

    web_port: PortOrOff = Field(
        8080, ge=0, le=65535, description="TCP port of the web pages. off: there are none."
    )
    web_bind: str = Field(
        "127.0.0.1",
        description="Address the web pages listen on. Other than this machine's own needs "
        "CXR_WEB_CERTIFICATE and CXR_WEB_KEY, or CXR_WEB_PROXIES.",
    )
    web_certificate: Path | None = Field(
        None, description="Certificate of the web pages and those up to its authority, a PEM file."
    )
    web_key: Path | None = Field(
        None, description="Private key of CXR_WEB_CERTIFICATE, a PEM file without a password."
    )
    web_proxies: Networks = Field(
        (),
        description="Addresses and networks of reverse proxies that speak TLS to the browsers; "
        "their X-Forwarded-For and -Proto are believed.",
    )
    web_hosts: HostNames = Field(
        (),
        description="Names and addresses by which browsers reach the web pages; others are "
        "refused. Default: those of this machine itself, and CXR_WEB_BIND.",
    )
    web_idle_min: float = Field(
        30, gt=0, le=1440, description="Whoever does nothing for so long is signed out, in minutes."
    )
    web_session_h: float = Field(
        12, gt=0, le=168, description="Everybody has to sign in again after so long, in hours."
    )
    audit_file: Path | None = Field(
        None,
        description="File of the audit trail: who saw and did what. It names patients. "
        "Default: CXR_HOME/audit/audit.log.",
    )
    audit_syslog: SyslogReceiver = Field(
        None,
        description="Where the audit trail goes as well, as syslog over TLS: host:port, the usual "
        "port is 6514. Default: nowhere.",
    )
    audit_authority: Path | None = Field(
        None, description="Certificates that vouch for the one of CXR_AUDIT_SYSLOG, a PEM file."
    )
    audit_certificate: Path | None = Field(
        None, description="Our certificate for CXR_AUDIT_SYSLOG, if it wants one, a PEM file."
    )
    audit_key: Path | None = Field(
        None, description="Private key of CXR_AUDIT_CERTIFICATE, a PEM file without a password."
    )

    @property
    def is_web_for_us_alone(self) -> bool:
        """Whether only this machine itself can reach the web pages."""
        return is_loopback(self.web_bind)

    @property
    def web_address(self) -> str:
        """Where a browser on this machine finds the web pages."""
        scheme = "http" if self.web_certificate is None else "https"
        host = "127.0.0.1" if is_any(self.web_bind) else self.web_bind
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.web_port}/"

    @property
    def web_files(self) -> tuple[Path, Path] | None:
        """Certificate and key of the web pages, absolute; None when they are not set."""
        if self.web_certificate is None or self.web_key is None:
            return None
        return whole(self.web_certificate), whole(self.web_key)

    @model_validator(mode="after")
    def _files_come_in_pairs(self) -> WebSettings:
        for kind in ("web", "audit"):
            require_pair(self, kind)
        return self

    @model_validator(mode="after")
    def _others_come_by_tls(self) -> WebSettings:
        if self.web_port is None or is_loopback(self.web_bind):
            return self
        if self.web_certificate is None and not self.web_proxies:
            raise ConfigurationError(
                "CXR_WEB_CERTIFICATE",
                f"is not set, but CXR_WEB_BIND is {self.web_bind}, which others can reach: set it "
                "and CXR_WEB_KEY, or name the reverse proxies in CXR_WEB_PROXIES, or leave "
                "CXR_WEB_BIND as it is",
            )
        if is_any(self.web_bind) and not self.web_hosts:
            raise ConfigurationError(
                "CXR_WEB_HOSTS",
                f"is not set, but CXR_WEB_BIND is {self.web_bind}: name the hosts by which "
                "browsers reach the web pages, such as cxr.example.org",
            )
        return self

    @model_validator(mode="after")
    def _own_hosts(self) -> WebSettings:
        if not self.web_hosts:
            hosts = tuple(dict.fromkeys((*LOOPBACK, self.web_bind.lower())))
            object.__setattr__(self, "web_hosts", hosts)
        return self

    @model_validator(mode="after")
    def _receiver_is_known(self) -> WebSettings:
        if self.audit_syslog is not None and self.audit_authority is None:
            raise ConfigurationError(
                "CXR_AUDIT_AUTHORITY",
                "is not set; CXR_AUDIT_SYSLOG needs it, to know its receiver from others",
            )
        return self


def is_loopback(host: str) -> bool:
    """Tell whether only this machine itself can reach what listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_any(host: str) -> bool:
    """Tell whether what listens there can be reached by every address of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
