"""How a user is called: one spelling for everything that looks the same."""

from __future__ import annotations

import unicodedata

from worker.access.errors import NameRefused
from worker.access.roles import LOCAL

LONGEST = 64  # as `decisions.person`
_MARKS = frozenset("._-@+")


def normalised(name: str) -> str:
    """Give the one spelling of a name.

    References
    ----------
    The Unicode Standard 3.13, toNFKC_Casefold, without the removal of ignorable characters, which
    are refused.
    """
    folded = unicodedata.normalize("NFKC", name.strip()).casefold()
    return unicodedata.normalize("NFKC", folded)


def checked(name: str) -> str:
    """Give the one spelling of a name for a new user.

    Raises
    ------
    NameRefused
        When no user may be called so.
    """
    given = normalised(name)
    if not given or len(given) > LONGEST:
        raise NameRefused(f"a user's name has 1 to {LONGEST} characters")
    if not given[0].isalnum() or not all(map(is_mark_of_name, given)):
        raise NameRefused(
            f"a user's name has letters, digits and {' '.join(sorted(_MARKS))} and begins with a "
            "letter or a digit"
        )
    if given == LOCAL:
        raise NameRefused(
            f"{LOCAL} is whoever signs in before there are users; choose another name"
        )
    return given


def is_mark_of_name(character: str) -> bool:
    """Tell whether a name may have a character in it."""
    return character.isalnum() or character in _MARKS
