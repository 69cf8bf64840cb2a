import pytest

from dicom_node.status import Status, describe, is_permanent, is_success


@pytest.mark.parametrize("status", [0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0110, 0x0122, 0x0124, 0x0210])
def test_what_concerns_the_instance_is_refused_for_good(status):
    assert is_permanent(status)


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0213, 0xFE00])
def test_what_may_pass_is_worth_another_try(status):
    assert not is_permanent(status)
    assert not is_success(status)


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007])
def test_a_warning_is_a_success(status):
    assert is_success(status)
    assert not is_permanent(status)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0xA700, "out of resources (0xA700)"),
        (0xA712, "out of resources (0xA712)"),
        (0xC123, "cannot understand (0xC123)"),
        (0x0122, "SOP class not supported (0x0122)"),
        (0x0199, "refused (0x0199)"),
        (0x9999, "unknown status (0x9999)"),
    ],
)
def test_every_status_has_words(status, words):
    assert describe(status) == words


def test_every_named_status_has_words_of_its_own():
    assert all("unknown" not in describe(status) for status in Status)
