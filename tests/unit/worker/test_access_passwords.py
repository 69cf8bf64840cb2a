"""Which passwords are good enough: length and what is common, no rules of composition."""

from __future__ import annotations

import pytest

from tests.accounts import OTHER_PASSWORD, PASSWORD
from worker.access import passwords
from worker.access.errors import PasswordRefused


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD, OTHER_PASSWORD, "twelve chars", "vier worte ohne ziffern", "8f3k29dmx71q",
        "ünïcödé-wörter", "x" * 4 + "tausend mal ja" + "x" * 238,
    ],
)  # fmt: skip
def test_a_long_password_is_good_whatever_it_is_made_of(password: str) -> None:
    passwords.require_good(password, "anna")


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("", "too short"),
        ("elf zeichen", "too short: it needs 12 characters"),
        ("x1y2z3" * 43, "too long: 256"),
        ("ich bin die ANNA selbst", "contains the user's name"),
        ("aaaaaaaaaaaa", "repetition"),
        ("abababababab", "repetition"),
        ("abcdabcdabcda", "repetition"),
        ("112211221122", "repetition"),
        ("abcdefghijklm", "sequence"),
        ("123456789012", "sequence"),
        ("qwertyuiopasdfghjkl", "sequence"),
        ("mnbvcxzlkjhgfdsa", "sequence"),
        ("PasswordPassword", "most common"),
        ("Password2026!!", "most common"),
        ("Hospital20261127", "most common"),
        ("pneumonia-12345", "most common"),
        ("1qaz2wsx3edc4rfv", "most common"),
        ("correct horse battery staple", "most common"),
        ("\uff50\uff41ssword2026", "most common"),
    ],
)
def test_a_password_that_is_easy_to_guess_is_refused_with_the_reason(
    password: str, told: str
) -> None:
    with pytest.raises(PasswordRefused, match=told) as caught:
        passwords.require_good(password, "anna")
    assert not password or password not in str(caught.value)


def test_a_short_name_may_be_in_a_password() -> None:
    passwords.require_good("jolanta bohrt löcher", "jo")


def test_each_common_password_is_written_as_it_is_compared() -> None:
    common = passwords._common()
    assert len(common) > 150
    assert all(each == each.casefold().strip() for each in common)


def test_a_wrong_hash_is_no_match_rather_than_an_error() -> None:
    assert not passwords.verify("not a hash", PASSWORD)
    assert not passwords.verify("", PASSWORD)
