"""Passwords: kept as Argon2id hashes, and refused when they are easy to guess.

The parameters are those of argon2-cffi, which are the second recommended option of RFC 9106 4:
Argon2id with 3 passes over 64 MiB in 4 lanes.

References
----------
RFC 9106; NIST SP 800-63B-4 3.1.1.2: length and a list of what is common, no rules of composition
"""

from __future__ import annotations

import re
import secrets
import threading
import unicodedata
from functools import cache
from importlib import resources
from itertools import pairwise

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from worker.access.errors import PasswordRefused

SHORTEST = 12
LONGEST = 256
# A name of fewer letters is in many a good password.
_TELLING_NAME = 4
_FEWEST_DIFFERENT = 5
_ALPHABETS = ("abcdefghijklmnopqrstuvwxyz", "0123456789" * 3, "qwertyuiop", "asdfghjkl", "zxcvbnm")

_hasher = PasswordHasher()
# Each hash takes 64 MiB while it is made: whatever comes at once, no more than this is taken.
_at_once = threading.BoundedSemaphore(4)


def hash_password(password: str) -> str:
    """Hash a password; it is not checked against the rules here.

    Returns
    -------
    str
        In the form of PHC, with its parameters and its salt.
    """
    with _at_once:
        return _hasher.hash(_normalised(password))


def verify(stored: str | None, password: str) -> bool:
    """Tell whether a password is the one that was hashed.

    Parameters
    ----------
    stored
        The hash; None for a user that is not known or has no password: that takes as long, so that
        nobody can tell by the time which names there are.
    password
        What was given.
    """
    given = _normalised(password)
    with _at_once:
        try:
            return _hasher.verify(stored or _nobody(), given) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def needs_rehash(stored: str) -> bool:
    """Tell whether a hash was made with other parameters than a new one would be."""
    return _hasher.check_needs_rehash(stored)


def require_good(password: str, name: str) -> None:
    """Refuse a password that is easy to guess.

    Raises
    ------
    PasswordRefused
        Saying what is wrong with it.
    """
    given = _normalised(password).casefold()
    if len(given) < SHORTEST:
        raise PasswordRefused(
            f"the password is too short: it needs {SHORTEST} characters, such as a few words"
        )
    if len(given) > LONGEST:
        raise PasswordRefused(f"the password is too long: {LONGEST} characters are the most")
    if len(name) >= _TELLING_NAME and name.casefold() in given:
        raise PasswordRefused("the password contains the user's name")
    if len(set(given)) < _FEWEST_DIFFERENT or _is_sequence(given):
        raise PasswordRefused("the password is a repetition or a sequence of characters")
    if {given, re.sub(r"[\W\d_]+$", "", given)} & _common():
        raise PasswordRefused("the password is one of the most common ones, or nearly so")


def _is_sequence(given: str) -> bool:
    """Tell whether a password is one short piece over and over, or a walk along the keyboard."""
    if re.fullmatch(r"(.{1,4}?)\1+.{0,3}", given):
        return True
    pairs = [a + b for a, b in pairwise(given)]
    walked = sum(any(pair in row or pair[::-1] in row for row in _ALPHABETS) for pair in pairs)
    return walked >= 0.8 * len(pairs)


def _normalised(password: str) -> str:
    """Give one spelling of what may be typed in several ways (NIST SP 800-63B-4 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


@cache
def _common() -> frozenset[str]:
    text = (resources.files("worker.access") / "common_passwords.txt").read_text("utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


@cache
def _nobody() -> str:
    """Make the hash against which a password of nobody is tried."""
    return _hasher.hash(secrets.token_urlsafe())
