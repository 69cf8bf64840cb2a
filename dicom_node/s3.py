"""S3, and what speaks like it, as `Objects`; needs the extra ``s3`` (s3fs)."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import dicom_node.privacy  # noqa: F401
from dicom_node.errors import ConfigurationError
from dicom_node.objects import Objects

_CONNECT_S, _READ_S = 5, 30
# What may not have arrived is sent anew by the library below, which begins the body anew as well.
_TRIES = 3
_MOST_CONNECTIONS = 64


@lru_cache(maxsize=16)
def s3_objects(root: str, endpoint: str = "") -> Objects:
    """Name a bucket and a prefix in it; nothing is asked yet.

    Credentials, region and certificates are found as the SDK does, in ``AWS_…`` above all.

    Parameters
    ----------
    root : str
        ``bucket/prefix``.
    endpoint : str
        The URL of what speaks like S3; "" for ``AWS_ENDPOINT_URL_S3``, or Amazon's.

    Raises
    ------
    ConfigurationError
        When the extra is missing.
    """
    if find_spec("s3fs") is None:
        raise ConfigurationError(
            "CXR_ARCHIVE",
            f"is s3://{root}, which needs the package s3fs: install cxr-worker[s3]",
        )
    return Objects(root, lambda: _file_system(endpoint))


def _file_system(endpoint: str) -> Any:
    from s3fs import S3FileSystem

    named = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config: dict[str, Any] = {
        "connect_timeout": _CONNECT_S,
        "read_timeout": _READ_S,
        "retries": {"mode": "standard", "total_max_attempts": _TRIES},
        "max_pool_connections": _MOST_CONNECTIONS,
    }
    if named:  # a bucket has a name of its own in the DNS only where somebody saw to that
        config["s3"] = {"addressing_style": "path"}
    made = S3FileSystem(
        endpoint_url=named,
        config_kwargs=config,
        skip_instance_cache=True,
        use_listings_cache=False,  # other processes write
        max_concurrency=1,  # what is read at once is of one version, and not asked about before
    )
    made.retries = 1
    return made
