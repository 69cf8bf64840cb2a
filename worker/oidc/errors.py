"""Why somebody was not let in by the provider; the text is one sentence, without any token."""

from __future__ import annotations

from dicom_node.errors import PacsWorkerError


class SignInElsewhereError(PacsWorkerError):
    """Signing in by the provider failed; nobody is let in."""


class ProviderAway(SignInElsewhereError):
    """The provider cannot be reached, or what it says of itself is not to be used."""


class ProviderBusy(ProviderAway):
    """Too many ask the provider just now; it may be well."""


class NotVouched(SignInElsewhereError):
    """The provider's answer does not prove who it is."""
