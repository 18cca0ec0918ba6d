"""Registries: what a package defines, and what a reader adds."""

from dataclasses import replace

import pytest

from hvib.methods import METHODS
from hvib.tasks import TASKS


def test_each_name_finds_its_own_value() -> None:
    assert all(task.name == name for name, task in TASKS.all().items())
    assert all(method.name == name for name, method in METHODS.all().items())
    assert {"mnist", "cifar10-wide", "wifi-any-snr"} <= set(TASKS.all())
    assert {"vib", "hyper-vib", "hyper-vib-tuned", "hyper-vib-film"} <= set(METHODS.all())


def test_what_is_added_comes_before_the_package_s_own_until_it_is_forgotten() -> None:
    own = TASKS.find("digits")
    other = TASKS.register(replace(own, label="other"))
    try:
        assert TASKS.find("digits") is other
    finally:
        TASKS.forget("digits")
    assert TASKS.find("digits") is own
    with pytest.raises(KeyError):
        TASKS.forget("digits")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="method = 'ib': unknown; choose one of flexible-vib, "):
        METHODS.find("ib")
