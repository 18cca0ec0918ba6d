"""The posterior mean of a delay: the covariance behind it, its value, and its error."""

import numpy as np
import pytest

from hvib.ranging.estimators import directed, music
from hvib.ranging.posterior import LEVELS, posterior_mean, reflected_covariance
from hvib.ranging.simulate import (
    BLUETOOTH,
    ONE_PATH,
    SPEED_OF_LIGHT,
    WIFI,
    Link,
    Measurements,
    Multipath,
    error_m,
    simulate,
)

LINKS = pytest.mark.parametrize("link", [BLUETOOTH, WIFI], ids=lambda link: link.name)


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


@LINKS
def test_the_covariance_of_reflections_is_campbells_integral(link: Link) -> None:
    multipath = Multipath(k_factor_db=2, decay_ns=15, max_excess_ns=60)
    width = 60 / 100_000
    excess = (np.arange(100_000) + 0.5) * width
    power = multipath.arrivals_per_ns * multipath.mean_power(excess) * width
    turns = np.exp(-2e-9j * np.pi * excess[:, None] * link.offsets_hz)
    found = reflected_covariance(multipath, link)
    for column in (0, 7):
        expected = power @ (turns * turns[:, column, None].conj())
        np.testing.assert_allclose(found[:, column], expected, atol=1e-6)
    assert found[0, 0].real == pytest.approx(1 - multipath.first_power)
    assert not reflected_covariance(ONE_PATH, link).any()


@pytest.mark.parametrize("antennas", [1, 2])
def test_it_is_the_mean_over_a_grid_of_whole_covariances(antennas: int) -> None:
    """Each delay's covariance written out, in a density with the scale integrated over."""
    link = Link(name="few", first_hz=1e9, spacing_hz=4e6, tones=6, antennas=antennas)
    multipath = Multipath(min_distance_m=2, max_distance_m=8)
    m = simulate(link, 5, 3, multipath=multipath, snr_db=15)
    delays = np.linspace(2, 8, 801) / SPEED_OF_LIGHT
    reflected = reflected_covariance(multipath, link)
    for response, found in zip(m.response, posterior_mean(m, multipath), strict=True):
        h = response.reshape(antennas, 6).astype(complex)
        h /= np.sqrt((np.abs(h) ** 2).mean())
        score = np.empty((len(LEVELS), len(delays)))
        for at, level in enumerate(LEVELS):
            for index, delay in enumerate(delays):
                turn = np.diag(np.exp(-2e-9j * np.pi * link.offsets_hz * delay))
                shape = multipath.first_power * np.ones((6, 6)) + reflected
                whole = turn @ (shape + level * np.eye(6)) @ turn.conj().T
                form = sum((one.conj() @ np.linalg.solve(whole, one)).real for one in h)
                logdet = np.linalg.slogdet(whole)[1]
                score[at, index] = -antennas * (6 * np.log(form) + logdet)
        likeliest = score[score.max(1).argmax()]
        weights = np.exp(likeliest - likeliest.max())
        # The two grids differ, at most a step of each.
        assert found == pytest.approx(float(weights @ delays / weights.sum()), abs=0.03)


@LINKS
def test_it_errs_less_than_music_and_than_itself_half_a_ns_off(link: Link) -> None:
    """In metres, on channels like those of the ranging tasks."""
    m = simulate(link, 1000, 14)
    found = posterior_mean(m)
    error = rms(error_m(m, found))
    assert error < {"bluetooth": 0.13, "wifi": 0.24}[link.name]
    assert error < rms(error_m(m, music(directed(m), link.spacing_hz)))
    for shift in (-0.5, 0.5):
        assert rms(error_m(m, found + shift)) > error
    np.testing.assert_allclose(posterior_mean(m[:5], chunk=2), found[:5])


def test_noise_is_found_from_the_response() -> None:
    """Nothing tells it the SNR, but the error falls with the noise."""
    errors = [
        rms(error_m(m, posterior_mean(m)))
        for m in (simulate(WIFI, 500, 14, snr_db=snr) for snr in (5, 20, 35))
    ]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


def test_it_never_leaves_the_distances_it_is_told() -> None:
    near = Multipath(min_distance_m=3, max_distance_m=4)
    found = posterior_mean(simulate(BLUETOOTH, 50, 1, snr_db=-10), near) * SPEED_OF_LIGHT
    assert (found >= 3).all()
    assert (found <= 4).all()
    point = Multipath(min_distance_m=3, max_distance_m=3)
    known = posterior_mean(simulate(WIFI, 3, 1), point) * SPEED_OF_LIGHT
    assert known == pytest.approx([3.0] * 3)


def test_several_antennas_of_a_two_way_link_have_a_sign_each() -> None:
    link = Link(name="both", first_hz=2.4e9, spacing_hz=1e6, tones=40, antennas=2, two_way=True)
    m = simulate(link, 100, 2)
    other = m.response.copy()
    assert rms(error_m(m, posterior_mean(m))) < 0.3
    again = posterior_mean(Measurements(link, other * np.exp(0.7j), m.delay_ns))
    np.testing.assert_allclose(again, posterior_mean(m), atol=1e-3)


def test_a_silent_response_is_refused() -> None:
    silent = Measurements(WIFI, np.zeros((1, 3, 30), complex), np.ones(1))
    with pytest.raises(ValueError, match=r"measured = 'a response of zeros': leave it out"):
        posterior_mean(silent)
