"""Settings of every role, read once from the environment and an optional file.

The environment wins over ``CXR_SETTINGS`` (a ``.env`` or ``.toml`` file; ``./.env`` when it is not
named), which wins over the defaults. A wrong value raises
:class:`~dicom_node.errors.ConfigurationError`, whose text is one line that names the key.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dicom_node.errors import ConfigurationError
from dicom_node.tls import TlsFiles
from worker.destinations import Destination, KnownPeer, is_this_machine
from worker.settings_broker import BrokerSettings
from worker.settings_dicomweb import DicomwebSettings
from worker.settings_file import PREFIX, given_values
from worker.settings_notify import NotifySettings
from worker.settings_objects import Bucket, ObjectSettings, Place
from worker.settings_oidc import OidcSettings
from worker.settings_paths import whole
from worker.settings_tracing import TracingSettings
from worker.settings_values import (
    AETitle,
    AETitles,
    Destinations,
    KnownPeers,
    Networks,
    PortOrOff,
)
from worker.settings_web import WebSettings
from worker.states import CompanionKind

InitSource = PydanticBaseSettingsSource

log = logging.getLogger(__name__)

# A hundred years: as many days as can be counted back from any date.
MOST_DAYS = 36_525


class Settings(
    BrokerSettings, DicomwebSettings, NotifySettings, ObjectSettings, OidcSettings, TracingSettings
):
    """Everything a role may be told; frozen, so that no module can change it later."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        validate_default=False,
        allow_inf_nan=False,
    )

    home: Path = Field(
        Path("cxr-home"),
        description="Folder for everything that is written unless told otherwise: archive, "
        "reports, audit trail, embedded database and broker.",
    )
    ae_title: AETitle = Field("CXRWORKER", description="Our AE title, as called and as calling AE.")
    bind: str = Field("0.0.0.0", description="Address the DICOM node listens on.")  # noqa: S104
    port: int = Field(
        11112, ge=0, le=65535, description="TCP port the DICOM node listens on without TLS."
    )
    tls_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port for DICOM TLS as well. Default: none."
    )
    plaintext: bool = Field(
        True, description="Whether to listen on CXR_PORT. off: only TLS, on CXR_TLS_PORT."
    )
    tls_certificate: Path | None = Field(
        None,
        description="Our certificate and those up to its authority, a PEM file, for DICOM TLS.",
    )
    tls_key: Path | None = Field(
        None, description="Private key of CXR_TLS_CERTIFICATE, a PEM file without a password."
    )
    tls_authority: Path | None = Field(
        None, description="Certificates of those whose certificates we trust, a PEM file."
    )
    database_url: str = Field(
        "",
        description="SQLAlchemy URL of the results database, such as "
        "postgresql+psycopg://user:password@host/cxr. Default: SQLite in CXR_HOME.",
    )
    archive: Place | None = Field(
        None,
        description="Folder for received instances and our reports, or s3://bucket/prefix. "
        "Default: CXR_HOME/archive.",
    )
    archive_reserve_mb: int = Field(
        512,
        ge=0,
        description="Refuse to store (0xA700) when less than this would stay free, in MB.",
    )
    archive_max_gb: float | None = Field(
        None,
        gt=0,
        description="Remove the oldest images that may go while the archive is larger, in GB. "
        "Default: no limit.",
    )
    keep_images_days: float | None = Field(
        None,
        gt=0,
        le=MOST_DAYS,
        description="Remove the images of a study that is through, so many days after the last "
        "one came. Default: keep for ever.",
    )
    keep_reports_days: float | None = Field(
        None,
        gt=0,
        le=MOST_DAYS,
        description="Remove our reports of a study that is through, and what went with them, so "
        "many days after the last one was made. Default: keep for ever.",
    )
    keep_results_days: float | None = Field(
        None,
        gt=0,
        le=MOST_DAYS,
        description="Delete the rows of a study that is through after so many days, no sooner "
        "than its images and reports. Default: keep for ever.",
    )
    destinations: Destinations = Field(
        (),
        description="Where reports go: AET@host:port, several separated by commas. Each may have "
        "options, such as ?companions=picture+key-object&tls=on&commitment=off; default: none, "
        "off, on.",
    )
    peers: KnownPeers = Field(
        (),
        description="Others we may call, by their AE title: where to send what they retrieve, and "
        "the results of commitments they ask for. AET@host:port, or AET@host:port?tls=on.",
    )
    allowed_ae_titles: AETitles = Field(
        frozenset(), description="Calling AE titles that may associate. Empty: all."
    )
    allowed_hosts: Networks = Field(
        (),
        description="Addresses and networks that may connect, such as 192.0.2.7,198.51.100.0/24. "
        "Empty: all.",
    )
    require_called_ae_title: bool = Field(
        False, description="Refuse an association that calls another AE title than CXR_AE_TITLE."
    )
    max_associations: int = Field(
        100,
        ge=1,
        # Each may cost a few descriptors, and the library waits with select(2), which takes 1024.
        le=400,
        description="Associations served at once; more are refused (temporary).",
    )
    network_timeout_s: float = Field(
        60, gt=0, description="An association that is silent for this long is dropped."
    )
    maximum_pdu: int = Field(
        262144,
        ge=4096,
        le=16777216,
        description="Largest PDU we take, in bytes; a peer that sends a larger one is aborted.",
    )
    quiet_s: float = Field(
        2, ge=0, description="A study is reported when nothing came for this long, in seconds."
    )
    population: Literal["withhold", "flag", "ignore"] = Field(
        "withhold",
        description="What to do with a patient outside the intended population: give no answer, "
        "give it with a flag, or ignore the age.",
    )
    model: Path | None = Field(
        None,
        description="Folder of a model artifact, or of versions from which `cxr-worker model use` "
        "chooses. Default: the one shipped with cxr-worker.",
    )
    heatmaps: bool = Field(
        False,
        description="Whether to make heat maps of what is or may be pneumonia, for the web pages. "
        "They are made in any case where a destination wants pictures.",
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="Where the network runs. auto: a GPU when TensorFlow sees one."
    )
    engine: Literal["auto", "tensorflow", "openvino"] = Field(
        "auto",
        description="What runs the network. auto: TensorFlow on a GPU; on a CPU OpenVINO, where "
        "it is installed and was faster when tried here at the first start, else TensorFlow.",
    )
    gpu_memory_mb: int | None = Field(
        None,
        ge=256,
        description="Most memory of a GPU that a worker takes, in MB. Default: what it needs.",
    )
    batch_size: int = Field(16, ge=1, le=256, description="Instances classified at once, at most.")
    decode_limit_s: float = Field(
        20, gt=0, description="An image that takes longer to decode is not assessed, in seconds."
    )
    lease_s: float = Field(
        20, gt=0, description="Work of a worker that died is taken over after this, in seconds."
    )
    step_limit_s: float = Field(
        300,
        gt=0,
        description="A classification or a report that takes longer is killed and tried again, in "
        "seconds.",
    )
    delivery_timeout_s: float = Field(
        30, gt=0, description="Limit for each step of sending a report, in seconds."
    )
    delivery_retry_s: float = Field(
        5, gt=0, description="First wait before a destination is tried again; doubles each time."
    )
    delivery_retry_max_s: float = Field(
        60, gt=0, description="Longest wait between two tries of a destination, in seconds."
    )
    max_attempts: int = Field(
        5, ge=1, description="Tries of a classification or a report before it is given up."
    )
    relay_interval_s: float = Field(
        0.5,
        gt=0,
        description="How often the relay looks for due work nobody announced, in seconds.",
    )
    metrics_port: PortOrOff = Field(
        None,
        ge=1,
        le=65535,
        description="TCP port for /metrics, /healthz and /readyz: of all roles under `cxr-worker "
        "up`, else of each role by itself. Default: off.",
    )
    metrics_bind: str = Field(
        "127.0.0.1", description="Address of CXR_METRICS_PORT, which asks for no password."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe log line that is written."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="How log lines are written: text, or json with an object a line."
    )

    @field_validator("destinations")
    @classmethod
    def _destinations_differ(cls, value: tuple[Destination, ...]) -> tuple[Destination, ...]:
        if len({str(each.peer) for each in value}) != len(value):
            raise ValueError("the same destination is listed twice")
        for each in value:
            if set(each.peer.ae_title) & set("@:;"):
                raise ValueError(f"{each.peer}: separate destinations by commas")
        return value

    @field_validator("peers")
    @classmethod
    def _peers_differ(cls, value: tuple[KnownPeer, ...]) -> tuple[KnownPeer, ...]:
        if len({each.peer.ae_title for each in value}) != len(value):
            raise ValueError("the same AE title is listed twice")
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:///", "postgresql+psycopg://", "postgresql://")):
            raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
        if value:
            _check_url(value)
        return value.replace("postgresql://", "postgresql+psycopg://", 1)

    @model_validator(mode="after")
    def _fill_from_home(self) -> Settings:
        home = whole(self.home)
        fill = object.__setattr__  # the instance is frozen from here on
        fill(self, "home", home)
        if not isinstance(self.archive, Bucket):
            fill(self, "archive", whole(self.archive or home / "archive"))
        fill(self, "spool", whole(self.spool or home / "spool"))
        audit_file = self.audit_file or home / "audit" / "audit.log"
        fill(self, "audit_file", whole(audit_file))
        if not self.database_url:
            fill(self, "database_url", f"sqlite:///{home / 'cxr-worker.sqlite3'}")
        if not self.broker_url:
            fill(self, "broker_url", f"redis+socket://{self.redis_socket}")
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        files = ("tls_certificate", "tls_key", "tls_authority")
        missing = [_key(name) for name in files if getattr(self, name) is None]
        needed = self._what_needs_tls()
        if missing and (needed or len(missing) < len(files)):
            why = f"{needed} needs" if needed else "DICOM TLS needs"
            also = ", ".join(map(_key, files))
            raise ConfigurationError(missing[0], f"is not set; {why} {also}")
        if not self.plaintext and self.tls_port is None:
            raise ConfigurationError(
                "CXR_PLAINTEXT", "is off, but CXR_TLS_PORT is not set: nothing would listen"
            )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Settings:
        taken: dict[int | None, str] = {}
        for name in ("port", "tls_port", "web_port", "metrics_port"):
            port, used = getattr(self, name), name != "port" or self.plaintext
            if port and used and taken.setdefault(port, _key(name)) != _key(name):
                raise ConfigurationError(
                    _key(name), f"is {taken[port]} too; one of them needs another port"
                )
        return self

    @model_validator(mode="after")
    def _reports_leave_this_node(self) -> Settings:
        """Refuse our own node as a destination: it takes our reports and keeps nothing."""
        for peer in (each.peer for each in self.destinations):
            ours = peer.ae_title == self.ae_title and peer.port in (self.port, self.tls_port)
            if ours and is_this_machine(peer.host):
                raise ConfigurationError(
                    "CXR_DESTINATIONS",
                    f"{peer} is this node itself, which keeps no reports; name the PACS",
                )
        return self

    @model_validator(mode="after")
    def _rows_are_kept_longest(self) -> Settings:
        """Refuse to forget what the archive still holds."""
        days = self.keep_results_days
        for name in ("keep_images_days", "keep_reports_days") if days is not None else ():
            other = getattr(self, name)
            if other is None or other > days:
                kept = "is not set: they are kept for ever" if other is None else f"is {other:g}"
                raise ConfigurationError(
                    "CXR_KEEP_RESULTS_DAYS", f"is {days:g}, but {_key(name)} {kept}; rows must be "
                    "kept as long as the files that they name"
                )  # fmt: skip
        return self

    def _what_needs_tls(self) -> str:
        """Name the first setting that needs certificates; nothing when none does."""
        if self.tls_port is not None:
            return "CXR_TLS_PORT"
        with_tls = [each.peer for each in self.destinations if each.tls]
        with_tls += [each.peer for each in self.peers if each.tls]
        return f"tls=on of {with_tls[0]}" if with_tls else ""

    @property
    def tls_files(self) -> TlsFiles | None:
        """The files of DICOM TLS; None when they are not set."""
        if not (self.tls_certificate and self.tls_key and self.tls_authority):
            return None
        paths = (self.tls_certificate, self.tls_key, self.tls_authority)
        return TlsFiles(*map(whole, paths))

    def destination(self, name: str) -> Destination:
        """Give a destination as it is set now, by its name in the database.

        One that is no longer set is still owed what was promised, without options.
        """
        named = {str(each.peer): each for each in self.destinations}
        return named.get(name) or Destination.parse(name)

    @property
    def companions(self) -> frozenset[CompanionKind]:
        """What any destination wants to go along with a report."""
        return frozenset(kind for each in self.destinations for kind in each.companions)

    @property
    def archive_root(self) -> Path:
        """The archive's folder, absolute; a bucket has none."""
        assert isinstance(self.archive, Path)  # filled in by the validator
        return self.archive

    @property
    def spool_path(self) -> Path:
        """The folder for what is on its way to a bucket, absolute."""
        assert self.spool is not None  # filled in by the validator
        return self.spool

    @property
    def audit_path(self) -> Path:
        """The file of the audit trail, absolute."""
        assert self.audit_file is not None  # filled in by the validator
        return self.audit_file

    @property
    def redis_socket(self) -> Path:
        """Socket of the embedded Redis. A socket's path may have 107 bytes (unix(7))."""
        path = self.home / "redis" / "redis.sock"
        if len(os.fsencode(path)) <= 100:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"cxr-worker-{os.getuid()}-{digest}" / "redis.sock"

    @property
    def embedded_broker(self) -> bool:
        """Whether `cxr-worker up` has to start Redis itself."""
        return self.broker_url == f"redis+socket://{self.redis_socket}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: InitSource,
        env_settings: InitSource,  # noqa: ARG003
        dotenv_settings: InitSource,  # noqa: ARG003
        file_secret_settings: InitSource,  # noqa: ARG003
    ) -> tuple[InitSource, ...]:
        """Take values from :meth:`from_env` alone, which reads environment and file itself."""
        return (init_settings,)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings.

        Parameters
        ----------
        environ
            The environment; that of the process when not given.

        Raises
        ------
        ConfigurationError
            When a value is wrong; one line, naming the key. A key that is no setting is only
            warned of: it may belong to a newer version.
        """
        environ = os.environ if environ is None else environ
        values = given_values(environ)
        for key in (k for k in values if _field(k) not in cls.model_fields):
            log.warning("%s is no setting and is ignored; `cxr-worker settings` lists them", key)
        fields: dict[str, Any] = {
            _field(k): v for k, v in values.items() if _field(k) in cls.model_fields
        }
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(_key(str(first["loc"][0])), _sentence(first)) from None


def _check_url(url: str) -> None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url)
    except (ArgumentError, ValueError):  # their text repeats the URL, password and all
        raise ValueError("is no URL that SQLAlchemy understands; check host and port") from None


def _key(field: str) -> str:
    return PREFIX + field.upper()


def _field(key: str) -> str:
    return key.removeprefix(PREFIX).lower()


def _sentence(error: Any) -> str:
    """Say what is wrong in one line; secrets in URLs are not repeated."""
    message = str(error["msg"]).removeprefix("Value error, ")
    secret = "url" in str(error["loc"][0])
    return message if secret else f"{message} (is {str(error['input'])!r})"


def describe_settings() -> list[tuple[str, str, str]]:
    """List every setting as (key, default, meaning), those of other modules last."""
    fields = {name: Settings.model_fields[name] for name in _in_order()}
    return [
        (_key(name), _shown(field.default), field.description or "")
        for name, field in fields.items()
    ]


PARTS: tuple[type[BaseSettings], ...] = (
    ObjectSettings, BrokerSettings, NotifySettings, TracingSettings, WebSettings, OidcSettings,
    DicomwebSettings,
)  # fmt: skip


def _in_order() -> list[str]:
    def part(name: str) -> int:
        return next((i for i, each in enumerate(PARTS, 1) if name in each.model_fields), 0)

    return sorted(Settings.model_fields, key=part)


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return "" if default in (None, "", (), frozenset()) else str(default)
