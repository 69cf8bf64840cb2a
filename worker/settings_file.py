"""Where settings come from: the environment, and a file that it names or that lies here."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from dicom_node.errors import ConfigurationError

PREFIX = "CXR_"
FILE_KEY = "CXR_SETTINGS"
# Read by the tests, not by the product.
OTHER_KEYS = frozenset(
    {FILE_KEY, "CXR_TEST_DATA", "CXR_REQUIRE_PEERS", "CXR_REQUIRE_PROMTOOL", "CXR_REQUIRE_RABBITMQ"}
)


def given_values(environ: Mapping[str, str]) -> dict[str, Any]:
    """Give what is set, by its key; the environment wins over the file.

    An empty value counts as not set: that is what compose files make of an absent one.

    Raises
    ------
    ConfigurationError
        When the file that is named cannot be read.
    """
    ours = {key: value for key, value in environ.items() if value}
    return {k: v for k, v in {**_from_file(ours), **ours}.items() if _is_ours(k) and v}


def _is_ours(key: str) -> bool:
    return key.startswith(PREFIX) and key not in OTHER_KEYS


def _from_file(environ: Mapping[str, str]) -> dict[str, Any]:
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


def _environment_value(value: object) -> object:
    """Spell a value of a TOML file as in the environment; an array of tables stays one."""
    if not isinstance(value, list):
        return str(value)
    return value if any(isinstance(each, dict) for each in value) else ",".join(map(str, value))
