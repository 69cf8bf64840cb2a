"""Our secret at the provider."""

from __future__ import annotations

from dicom_node.errors import ConfigurationError
from worker.settings import Settings
from worker.settings_paths import whole


def read_secret(settings: Settings) -> str | None:
    """Read the secret; None for a public client.

    Raises
    ------
    ConfigurationError
        When it cannot be read; what is in the file is not repeated.
    """
    key, file = "CXR_OIDC_CLIENT_SECRET_FILE", settings.oidc_client_secret_file
    if file is None:
        return None
    path = whole(file)
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is no text"
        raise ConfigurationError(key, f"{path} cannot be read: {why}") from None
    if not secret or not secret.isprintable():
        raise ConfigurationError(key, f"{path} must hold the secret alone, on one line")
    return secret
