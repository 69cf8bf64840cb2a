"""Files of TLS that settings name, loaded so that what is wrong is said of the right one."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from dicom_node.errors import ConfigurationError


def trust(context: ssl.SSLContext, setting: str, authority: Path) -> None:
    """Trust whom a file vouches for, be it an authority, one between, or a peer itself.

    Raises
    ------
    ConfigurationError
        With the setting, when the file is missing or is not PEM.
    """
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=authority)
    except OSError as error:
        raise _unusable(setting, authority, error) from error


def present(context: ssl.SSLContext, certificate: tuple[str, Path], key: tuple[str, Path]) -> None:
    """Load our certificate and its key, each given by its setting and its file.

    Raises
    ------
    ConfigurationError
        With the setting whose file is missing, is not PEM or does not belong to the other.
    """
    (_, certificate_file), (key_setting, key_file) = certificate, key

    def refuse_password() -> NoReturn:
        raise ConfigurationError(
            key_setting, f"{key_file} is encrypted; give it without a password"
        )

    for setting, path in (certificate, key):
        try:
            path.open("rb").close()  # OpenSSL's error would not say which file
        except OSError as error:
            raise _unusable(setting, path, error) from error
    try:
        context.load_cert_chain(certificate_file, key_file, password=refuse_password)
    except ssl.SSLError as error:
        raise ConfigurationError(
            key_setting,
            f"{key_file} is no private key in PEM, or not that of the certificate "
            f"{certificate_file}",
        ) from error


def _unusable(setting: str, path: Path, error: OSError) -> ConfigurationError:
    if isinstance(error, ssl.SSLError):
        return ConfigurationError(setting, f"{path} holds no certificate in PEM")
    return ConfigurationError(setting, f"{path} cannot be read: {error.strerror}")
