"""Settings of every role, read once from the environment and an optional file.

The environment wins over ``CXR_SETTINGS`` (a ``.env`` or ``.toml`` file; ``./.env`` when it is not
named), which wins over the defaults. A wrong value raises
:class:`~dicom_node.errors.ConfigurationError`, whose text is one line that names the key.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from dicom_node.errors import ConfigurationError
from dicom_node.peer import Peer

PREFIX = "CXR_"
FILE_KEY = "CXR_SETTINGS"
# Read by the tests, not by the product.
OTHER_KEYS = frozenset({FILE_KEY, "CXR_TEST_DATA", "CXR_REQUIRE_PEERS"})

InitSource = PydanticBaseSettingsSource

log = logging.getLogger(__name__)


def _split(value: object) -> object:
    """Split ``a,b`` at its commas; anything else is passed on."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _peers(value: object) -> object:
    """Read ``AET@host:port,…``."""
    parts = _split(value)
    if isinstance(parts, list):
        return tuple(Peer.parse(part) if isinstance(part, str) else part for part in parts)
    return parts


def _valid_ae_title(value: str) -> str:
    """Check an AE title (DICOM PS3.5 6.2, VR AE): 1 to 16 characters, no backslash, no controls."""
    title = value.strip()
    if not 1 <= len(title) <= 16 or "\\" in title or not title.isascii() or not title.isprintable():
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return title


AETitle = Annotated[str, BeforeValidator(_valid_ae_title)]


class Settings(BaseSettings):
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
        "reports, embedded database and broker, logs.",
    )
    ae_title: AETitle = Field("CXRWORKER", description="Our AE title, as called and as calling AE.")
    bind: str = Field("0.0.0.0", description="Address the DICOM node listens on.")  # noqa: S104
    port: int = Field(11112, ge=0, le=65535, description="TCP port the DICOM node listens on.")
    database_url: str = Field(
        "",
        description="SQLAlchemy URL of the results database, such as "
        "postgresql+psycopg://user:password@host/cxr. Default: SQLite in CXR_HOME.",
    )
    broker_url: str = Field(
        "",
        description="Celery broker, such as redis://host:6379/0. Default: the socket of the Redis "
        "that `cxr-worker up` starts in CXR_HOME.",
    )
    archive: Path | None = Field(
        None,
        description="Folder for received instances and our reports. Default: CXR_HOME/archive.",
    )
    archive_reserve_mb: int = Field(
        512,
        ge=0,
        description="Refuse to store (0xA700) when less than this would stay free, in MB.",
    )
    destinations: Annotated[tuple[Peer, ...], NoDecode, BeforeValidator(_peers)] = Field(
        (), description="Where reports go: AET@host:port, several separated by commas."
    )
    allowed_ae_titles: Annotated[frozenset[str], NoDecode, BeforeValidator(_split)] = Field(
        frozenset(), description="Calling AE titles that may associate. Empty: all."
    )
    max_associations: int = Field(
        100, ge=1, description="Associations served at once; more are refused (temporary)."
    )
    network_timeout_s: float = Field(
        60, gt=0, description="An association that is silent for this long is dropped."
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
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="Where the network runs. auto: a GPU when TensorFlow sees one."
    )
    engine: Literal["auto", "tensorflow", "openvino"] = Field(
        "auto",
        description="What runs the network. auto: TensorFlow on a GPU; on a CPU OpenVINO, where "
        "it is installed and was faster when tried here at the first start, else TensorFlow.",
    )
    batch_size: int = Field(16, ge=1, le=256, description="Instances classified at once, at most.")
    lease_s: float = Field(
        20, gt=0, description="Work of a worker that died is taken over after this, in seconds."
    )
    step_limit_s: float = Field(
        300, gt=0, description="A step that takes longer is killed and tried again, in seconds."
    )
    delivery_timeout_s: float = Field(
        30, gt=0, description="Limit for each step of sending a report, in seconds."
    )
    delivery_retry_s: float = Field(
        5, gt=0, description="First wait before a delivery is tried again; doubles each time."
    )
    delivery_retry_max_s: float = Field(
        600, gt=0, description="Longest wait between two tries of a delivery, in seconds."
    )
    max_attempts: int = Field(
        5, ge=1, description="Tries of a classification or a report before it is given up."
    )
    relay_interval_s: float = Field(
        0.5,
        gt=0,
        description="How often the relay looks for due work nobody announced, in seconds.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe log line that is written."
    )

    @field_validator("destinations")
    @classmethod
    def _destinations_differ(cls, value: tuple[Peer, ...]) -> tuple[Peer, ...]:
        if len(set(map(str, value))) != len(value):
            raise ValueError("the same destination is listed twice")
        return value

    @field_validator("allowed_ae_titles")
    @classmethod
    def _valid_titles(cls, value: frozenset[str]) -> frozenset[str]:
        return frozenset(map(_valid_ae_title, value))

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:///", "postgresql+psycopg://", "postgresql://")):
            raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
        if value:
            _check_url(value)
        return value.replace("postgresql://", "postgresql+psycopg://", 1)

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str) -> str:
        schemes = ("redis://", "rediss://", "redis+socket://", "sentinel://", "amqp://", "amqps://")
        if value and not value.startswith(schemes):
            raise ValueError(f"must start with one of {' '.join(schemes)}")
        return value

    @model_validator(mode="after")
    def _fill_from_home(self) -> Settings:
        home = self.home.expanduser().absolute()
        fill = object.__setattr__  # the instance is frozen from here on
        fill(self, "home", home)
        fill(self, "archive", (self.archive or home / "archive").expanduser().absolute())
        if not self.database_url:
            fill(self, "database_url", f"sqlite:///{home / 'cxr-worker.sqlite3'}")
        if not self.broker_url:
            fill(self, "broker_url", f"redis+socket://{self.redis_socket}")
        return self

    @property
    def archive_root(self) -> Path:
        """The archive's folder, absolute."""
        assert self.archive is not None  # filled in by the validator
        return self.archive

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
        given = {**_from_file(environ), **environ}
        # An empty value counts as not set: that is what compose files make of an absent one.
        values = {k: v for k, v in given.items() if _is_ours(k) and v}
        for key in (k for k in values if _field(k) not in cls.model_fields):
            log.warning("%s is no setting and is ignored; `cxr-worker settings` lists them", key)
        fields: dict[str, Any] = {
            _field(k): v for k, v in values.items() if _field(k) in cls.model_fields
        }
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            key = PREFIX + str(first["loc"][0]).upper()
            raise ConfigurationError(key, _sentence(first)) from None


def _check_url(url: str) -> None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url)
    except (ArgumentError, ValueError):  # their text repeats the URL, password and all
        raise ValueError("is no URL that SQLAlchemy understands; check host and port") from None


def _is_ours(key: str) -> bool:
    return key.startswith(PREFIX) and key not in OTHER_KEYS


def _field(key: str) -> str:
    return key.removeprefix(PREFIX).lower()


def _sentence(error: Any) -> str:
    """Say what is wrong in one line; secrets in URLs are not repeated."""
    message = str(error["msg"]).removeprefix("Value error, ")
    secret = "url" in str(error["loc"][0])
    return message if secret else f"{message} (is {str(error['input'])!r})"


def _from_file(environ: Mapping[str, str]) -> dict[str, str]:
    """Values of the settings file, keyed as in the environment."""
    named = environ.get(FILE_KEY)
    path = Path(named or ".env").expanduser()
    if not path.is_file():
        if named:
            raise ConfigurationError(FILE_KEY, f"names {named}, which is no file")
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".toml":
            values = dotenv_values(stream=io.StringIO(text))
            return {k: v or "" for k, v in values.items() if k.startswith(PREFIX)}
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(FILE_KEY, f"{path} is no valid file: {error}") from None
    except OSError as error:
        raise ConfigurationError(FILE_KEY, f"{path} cannot be read: {error.strerror}") from None
    return {_environment_key(k): _environment_value(v) for k, v in table.items()}


def _environment_key(key: str) -> str:
    return key if key.startswith(PREFIX) else PREFIX + key.upper()


def _environment_value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def describe_settings() -> list[tuple[str, str, str]]:
    """List every setting as (key, default, meaning)."""
    return [
        (PREFIX + name.upper(), _shown(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def _shown(default: object) -> str:
    return "" if default in (None, "", (), frozenset()) else str(default)
