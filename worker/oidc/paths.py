"""Paths of ours on the way to the provider and back."""

from __future__ import annotations

from typing import Final

START: Final = "/sign-in/oidc"
BACK: Final = "/sign-in/oidc/back"
SIGNED_OUT: Final = "/signed-out"
