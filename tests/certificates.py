"""Certificates for tests of TLS, made by OpenSSL when they are asked for."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from dicom_node.tls import TlsFiles, client_context, server_context

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """A certificate authority of one folder.

    Parameters
    ----------
    folder
        Where its files go; made.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not on the PATH")
        folder.mkdir()
        self.folder = folder
        self.certificate, self._key = folder / "authority.pem", folder / "authority-key.pem"
        self._run(
            "req", "-x509", *_CURVE, "-keyout", self._key, "-out", self.certificate,
            "-days", "2", "-subj", f"/CN=Authority {folder.name}",
        )  # fmt: skip

    def issue(self, name: str, days: int = 2, hosts: str = "") -> TlsFiles:
        """Make a certificate; one of 0 days has expired. `hosts` is as in ``IP:127.0.0.1``."""
        certificate, key, request = (
            self.folder / f"{name}{end}.pem" for end in ("", "-key", "-request")
        )
        self._run("req", *_CURVE, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        extensions = self.folder / f"{name}-extensions"
        extensions.write_text(f"subjectAltName={hosts}\n" if hosts else "")
        self._run(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
            "-CAcreateserial", "-out", certificate, "-days", str(days), "-extfile", extensions,
        )  # fmt: skip
        return TlsFiles(certificate, key, self.certificate)

    def server(self, name: str = "node") -> ssl.SSLContext:
        """What a server listens with."""
        return server_context(self.issue(name))

    def client(self, name: str = "modality", days: int = 2) -> ssl.SSLContext:
        """What a client connects with."""
        return client_context(self.issue(name, days))

    def _run(self, *words: str | Path) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
