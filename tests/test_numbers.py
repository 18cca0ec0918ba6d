"""What is no number, or out of its range, ends in one clear error wherever a caller gives it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import hvib
from hvib.data import Data
from hvib.ranging.simulate import Link

HYPER = hvib.hyperize(nn.Sequential(nn.Linear(3, 2)))
SYSTEM = hvib.System(hvib.mlp([64, 16]), hvib.mlp([8, 10]), hvib.AWGN(20), 8)


def link(**changed: object) -> Link:
    settings = {"name": "x", "first_hz": 2.4e9, "spacing_hz": 1e6, "tones": 4, **changed}
    return Link(**settings)  # type: ignore[arg-type]  # what is wrong is the point


def enter(beta: object) -> None:
    with hvib.at(beta):  # type: ignore[arg-type]  # what is wrong is the point
        pass


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: enter("1e-3"), "beta = '1e-3': give finite β > 0"),
        (lambda: enter(object()), "beta = <object .*: give finite β > 0"),
        (lambda: enter([1e-3, None]), "beta = .*: give finite β > 0"),
        (lambda: enter([]), r"beta = \[\]: give finite β > 0"),
        (lambda: hvib.fold(HYPER, None), "beta = None: give finite β > 0"),  # type: ignore[arg-type]
        (lambda: hvib.fold(HYPER, [1.0, 2.0]), "fold at one β"),  # type: ignore[list-item]
        (lambda: hvib.AWGN("20"), "snr_db = '20': give a finite number of dB"),  # type: ignore[arg-type]
        (lambda: hvib.AWGN(np.nan), "snr_db = nan: give a finite number of dB"),
        (lambda: link(spacing_hz=0), "spacing_hz = 0.0: give a frequency > 0"),
        (lambda: link(first_hz=None), "first_hz = None: give a finite number of hertz"),
        (lambda: link(tones=2.5), "tones = 2.5: give a whole number"),
        (lambda: link(antennas=0), "antennas = 0: give at least 1"),
        (lambda: link(antenna_spacing_m=-1.0), "antenna_spacing_m = -1.0: give 0 or more"),
    ],
)
def test_it_is_refused(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize("draws", [1.5, "4", 0])
def test_so_are_channel_draws(draws: object, digits: Data) -> None:
    with pytest.raises(ValueError, match=f"draws = {draws!r}: give"):
        hvib.evaluate(SYSTEM, digits.test, [1e-3], draws=draws)  # type: ignore[arg-type]


@pytest.mark.parametrize("beta", [1e-3, np.float32(1e-3), torch.tensor(1e-3), [1e-3], (1e-3,)])
def test_a_number_of_any_kind_is_one(beta: float) -> None:
    x = torch.ones(2, 3)
    with hvib.at(1e-3):
        expected = HYPER(x)
    with hvib.at(beta):
        assert torch.equal(HYPER(x), expected)
