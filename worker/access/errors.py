"""What cannot be done about users; the text is one sentence for whoever asked for it."""

from __future__ import annotations

from dicom_node.errors import PacsWorkerError


class AccessError(PacsWorkerError):
    """What was asked for cannot be done; nothing was changed."""


class NameRefused(AccessError):
    """No user may be called so, or there is one already."""


class PasswordRefused(AccessError):
    """The password is too weak; the text says in what way, and never repeats it."""


class UnknownUser(AccessError):
    """There is no user of this name, or it is disabled."""


class VouchedElsewhere(AccessError):
    """The user signs in by a provider, which says what was to be changed here."""


class LastAdmin(AccessError):
    """Nobody would be left who can administrate."""


class UnknownToken(AccessError):
    """There is no token of this number."""


class LabelRefused(AccessError):
    """No token may be labelled so."""
