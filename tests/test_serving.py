"""Choosing at run time: the β of a request, and answers of mixed batches and of cached folds."""

import itertools
import math
import threading
import warnings
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import lines
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import PchipInterpolator

import hvib
from hvib.book.figures import serving as figures
from hvib.book.serving import (
    BEST,
    BLIND,
    CAREFUL,
    CHOSEN,
    FINE_BETAS,
    FINE_SNRS,
    ON_GRID,
    ONE,
    POLICIES,
    facts,
    left_out,
    regret,
    requests,
    study,
)
from hvib.book.states import BETAS as BETAS_OF_STUDY
from hvib.book.states import mixed
from hvib.channel import Channel
from hvib.channels import Erasure, Faded, Steady
from hvib.hyper import Gated
from hvib.ledger import Record
from hvib.methods.state import stateful
from hvib.serving import Folded, Surface, choose, choose_blind, infer
from hvib.serving.smooth import monotone
from hvib.system import System, draw_noise
from hvib.tasks import ACCURACY

BETAS, SNRS = (1e-2, 1e-1, 1.0), (0.0, 10.0)


def rows(higher_is_better: bool = True) -> list[dict[str, Any]]:
    """At 0 dB 8, 4 and 2 bits for 90, 80 and 50%; at 10 dB twice the bits, and 5 points more."""
    gains, bits = (0.9, 0.8, 0.5), (8.0, 4.0, 2.0)
    sign = 1 if higher_is_better else -1
    return [
        {
            "beta": beta,
            "snr_db": snr,
            "metric": sign * (gain + snr / 200),
            "distortion": 1 - gain,
            "rate_nats": rate * (1 + snr / 10) * math.log(2),
        }
        for snr in SNRS
        for beta, gain, rate in zip(BETAS, gains, bits, strict=True)
    ]


SURFACE = Surface.of_rows(rows())


def test_a_surface_holds_its_rows_and_is_linear_between() -> None:
    for row in rows():
        found = SURFACE.at(row["beta"], row["snr_db"])
        assert found["metric"] == pytest.approx(row["metric"])
        assert found["bits"] == pytest.approx(row["rate_nats"] / math.log(2))
        assert found["distortion"] == pytest.approx(row["distortion"])
    found = SURFACE.at(10**-1.5, 5.0)  # half-way on both axes
    assert found["metric"] == pytest.approx(0.875)
    assert found["bits"] == pytest.approx(9.0)
    shuffled = Surface.of_rows(rows()[::-1])
    assert np.array_equal(shuffled.bits, SURFACE.bits)


def test_many_requests_are_looked_up_at_once() -> None:
    betas, snrs = np.array([[1e-2], [1.0]]), np.array([0.0, 4.0, 10.0])
    found = SURFACE.at(betas, snrs)
    assert found["bits"].shape == (2, 3)
    for (i, beta), (j, snr) in itertools.product(enumerate(betas[:, 0]), enumerate(snrs)):
        assert found["bits"][i, j] == pytest.approx(float(SURFACE.at(beta, snr)["bits"]))


def test_beyond_the_range_an_snr_warns_and_a_beta_is_refused() -> None:
    for beyond, end in ((-3.0, 0.0), (17.0, 10.0)):
        with pytest.warns(UserWarning, match="measured from 0 to 10 dB"):
            found = SURFACE.at(0.1, beyond)
        assert found == SURFACE.at(0.1, end)
    with pytest.warns(UserWarning, match="for 1 requests") as caught:
        choose(SURFACE, np.array([5.0, 11.0]), bits=20.0)
    (one,) = caught
    assert one.filename == __file__  # where it was asked for
    for beta in (1e-3, 2.0):
        with pytest.raises(ValueError, match=r"beta = .*measured from 0\.01 to 1"):
            SURFACE.at(beta, 5.0)
    # What float32 rounds off an end is no step beyond it.
    SURFACE.at(float(torch.tensor(1e-2)) * (1 - 1e-7), 10.0 + 1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda found: found[:-1], "snr_db, beta"),
        (lambda found: [*found, found[0]], "twice"),
        (lambda found: [{**found[0], "snr_db": None}, *found[1:]], "snr_db"),
        (lambda found: [{**found[0], "metric": math.nan}, *found[1:]], "metric"),
        (lambda found: [{**row, "beta": -row["beta"]} for row in found], "betas"),
        (lambda found: [], "rows"),
    ],
)
def test_rows_that_are_no_surface_are_refused(change: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Surface.of_rows(change(rows()))


def test_a_surface_is_a_value() -> None:
    with pytest.raises(ValueError, match="read-only"):
        SURFACE.bits[0, 0] = 1.0
    one = np.zeros((1, 1))
    with pytest.raises(ValueError, match="betas"):
        Surface(
            np.array([1.0, 0.1]),
            np.array([0.0]),
            np.zeros((1, 2)),
            np.zeros((1, 2)),
            np.zeros((1, 2)),
        )
    with pytest.raises(ValueError, match="bits"):
        Surface(np.array([0.1]), np.array([0.0]), one, one, np.zeros((2, 1)))


def test_the_best_within_a_budget() -> None:
    snrs = [0.0, 0.0, 0.0, 10.0, 10.0, 5.0]
    bits = [8.0, 100.0, 4.0, 8.0, 12.0, math.inf]
    found = choose(SURFACE, np.array(snrs), bits=np.array(bits))
    assert found.beta == pytest.approx([1e-2, 1e-2, 0.1, 0.1, 10**-1.5, 1e-2])
    assert found.metric == pytest.approx([0.9, 0.9, 0.8, 0.85, 0.9, 0.925])
    assert found.bits == pytest.approx([8, 8, 4, 8, 12, 12])
    # Points of the grid are exact, so that equal requests find the same folded system.
    assert found.beta[[0, 2, 3]].tolist() == [1e-2, 0.1, 0.1]


def test_only_of_given_betas() -> None:
    found = choose(SURFACE, 10.0, bits=np.array([12.0, 7.9]), betas=BETAS)
    assert found.beta.tolist() == [0.1, 1.0]
    held = [0.05, 0.3]  # between the points, in no order
    assert choose(SURFACE, 0.0, bits=100.0, betas=held[::-1]).beta == 0.05
    least = float(SURFACE.at(0.3, 0.0)["bits"])
    assert choose(SURFACE, 0.0, bits=least, betas=held).beta == 0.3
    with pytest.raises(ValueError, match=r"bits = 2\.5: no β fits at 0 dB: give at least 3\.0"):
        choose(SURFACE, 0.0, bits=2.5, betas=held)
    for wrong in ([2.0], [math.nan], []):
        with pytest.raises(ValueError, match="betas"):
            choose(SURFACE, 0.0, bits=2.5, betas=wrong)


def test_the_cheapest_that_is_good_enough() -> None:
    found = choose(SURFACE, 0.0, metric=np.array([0.9, 0.85, 0.65, 0.1]))
    assert found.beta == pytest.approx([1e-2, 10**-1.5, 10**-0.5, 1.0])
    assert found.bits == pytest.approx([8, 6, 3, 2])
    assert choose(SURFACE, 0.0, metric=0.85, betas=BETAS).beta == 1e-2


def test_errors_rank_the_other_way_round() -> None:
    errors = Surface.of_rows(rows(higher_is_better=False), higher_is_better=False)
    for bits in (2.0, 3.0, 8.0):
        assert choose(errors, 0.0, bits=bits).beta == choose(SURFACE, 0.0, bits=bits).beta
    assert choose(errors, 0.0, metric=-0.85).bits == pytest.approx(6.0)
    with pytest.raises(ValueError, match=r"metric = -0\.95: .*ask for at least -0\.9 there"):
        choose(errors, 0.0, metric=-0.95)


def test_of_equally_good_betas_the_cheapest() -> None:
    flat = [{**row, "metric": 0.7} for row in rows()]
    assert choose(Surface.of_rows(flat), 3.0, bits=100.0).beta == 1.0
    free = [{**row, "rate_nats": 1.0} for row in rows()]
    assert choose(Surface.of_rows(free), 3.0, metric=0.6).beta == 1e-2


def test_what_does_not_fit_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"bits = 1\.5: no β fits at 5 dB: .*at least 3 bits"):
        choose(SURFACE, 5.0, bits=1.5)
    with pytest.raises(ValueError, match=r"bits = 3\.0: no β fits at 10 dB \(2 of 3 requests\)"):
        choose(SURFACE, np.array([0.0, 10.0, 9.0]), bits=3.0)
    with pytest.raises(ValueError, match=r"metric = 0\.96: no β fits at 10 dB: ask for at most"):
        choose(SURFACE, 10.0, metric=0.96)
    for wrong in ({}, {"bits": 3.0, "metric": 0.5}, {"bits": math.nan}, {"bits": "many"}):
        with pytest.raises(ValueError, match="bits"):
            choose(SURFACE, 5.0, **wrong)
    with pytest.raises(ValueError, match="metric"):
        choose(SURFACE, np.zeros(2), metric=np.zeros(3))
    with pytest.raises(ValueError, match="snr_db"):
        choose(SURFACE, math.nan, bits=9.0)


def test_one_beta_for_all_snrs_keeps_its_budget_everywhere() -> None:
    found = choose_blind(SURFACE, np.array([4.0, 8.0, 12.0, 100.0]))
    assert found.beta == pytest.approx([1.0, 0.1, 10**-1.5, 1e-2])
    assert found.bits == pytest.approx([4, 8, 12, 16])  # at 10 dB
    assert found.metric == pytest.approx([0.525, 0.825, 0.875, 0.925])  # the mean over both
    with pytest.raises(ValueError, match=r"bits = 3\.0: .*less than 4 at every SNR"):
        choose_blind(SURFACE, 3.0)


def test_a_surface_of_one_point() -> None:
    one = Surface.of_rows(rows()[:1])
    assert choose(one, 0.0, bits=8.0).beta == choose_blind(one, 8.0).beta == 1e-2


@given(
    arrays(float, 6, elements=st.floats(0.1, 3)),
    arrays(float, (2, 7), elements=st.floats(-5, 5, width=16)),
)
def test_the_smooth_curve_is_scipy_s(steps: np.ndarray, y: np.ndarray) -> None:
    x = np.append(0.0, steps).cumsum()
    at = np.linspace(0, x[-1], 50)
    wanted = PchipInterpolator(x, y, axis=-1)(at)
    np.testing.assert_allclose(monotone(x, y, at), wanted, atol=1e-9)


def test_a_smooth_surface_goes_through_the_points_and_stays_between() -> None:
    for surface in (SURFACE, Surface.of_rows(rows()[:1])):
        fine = surface.smooth(4)
        assert np.array_equal(fine.betas[::4], surface.betas)
        for name in ("metric", "distortion", "bits"):
            whole, points = getattr(fine, name), getattr(surface, name)
            np.testing.assert_allclose(whole[::4, ::4], points)
            assert points.min() - 1e-9 <= whole.min() <= whole.max() <= points.max() + 1e-9
    # A rate that halves with each step is a straight line in its logarithm.
    assert SURFACE.smooth().at(10**-1.5, 0.0)["bits"] == pytest.approx(8 / math.sqrt(2))
    with pytest.raises(ValueError, match="times"):
        SURFACE.smooth(0)


def test_a_part_of_the_grid_is_a_surface() -> None:
    part = SURFACE.only([1.0, 1e-2], [10.0])
    assert (part.betas.tolist(), part.snrs_db.tolist()) == ([1e-2, 1.0], [10.0])
    assert part.bits.tolist() == [[SURFACE.bits[1, 0], SURFACE.bits[1, 2]]]
    with pytest.raises(ValueError, match=r"betas = \[0\.5\]"):
        SURFACE.only([0.5], [10.0])


def surfaces(betas: int = 4, snrs: int = 3) -> st.SearchStrategy[Surface]:
    """Any numbers, in no order: neither rate nor metric need be monotone."""
    column = arrays(float, (snrs, betas), elements=st.floats(0, 10, width=32))
    grid = np.logspace(-3, 0, betas), np.linspace(-5, 25, snrs)
    return st.builds(lambda *parts: Surface(*grid, *parts), column, column, column)


@given(surfaces(), st.floats(-5, 25), st.floats(0, 12))
def test_no_beta_within_the_budget_is_better(surface: Surface, snr: float, budget: float) -> None:
    if budget < surface.least_bits(snr):
        return
    found = choose(surface, snr, bits=budget)
    assert found.bits <= budget * (1 + 1e-6) + 1e-6
    there = surface.at(found.beta, snr)
    for name in ("metric", "distortion", "bits"):
        assert there[name] == pytest.approx(getattr(found, name), abs=1e-6)
    everywhere = surface.at(np.geomspace(1e-3, 1.0, 301), snr)
    fit = everywhere["bits"] <= budget
    assert (everywhere["metric"][fit] <= found.metric + 1e-6).all()
    on_grid = choose(surface, snr, bits=budget, betas=surface.betas)
    assert on_grid.beta in surface.betas
    assert on_grid.metric <= found.metric + 1e-6


@given(surfaces(), st.floats(-5, 25), st.floats(0, 10))
def test_no_beta_that_is_good_enough_is_cheaper(
    surface: Surface, snr: float, wanted: float
) -> None:
    if wanted > surface.best_metric(snr):
        return
    found = choose(surface, snr, metric=wanted)
    assert found.metric >= wanted - 1e-6
    everywhere = surface.at(np.geomspace(1e-3, 1.0, 301), snr)
    enough = everywhere["metric"] >= wanted
    assert (everywhere["bits"][enough] >= found.bits - 1e-6).all()


@given(surfaces(), st.floats(0, 12))
def test_who_knows_the_snr_does_no_worse(surface: Surface, budget: float) -> None:
    if budget < surface.bits.max(0).min():
        return
    blind = choose_blind(surface, budget)
    assert blind.bits <= budget * (1 + 1e-6) + 1e-6
    told = choose(surface, surface.snrs_db, bits=budget)
    assert (told.metric >= surface.at(blind.beta, surface.snrs_db)["metric"] - 1e-6).all()


@given(surfaces(), st.lists(st.tuples(st.floats(-5, 25), st.floats(10, 12)), min_size=1))
def test_requests_together_find_what_each_finds_alone(
    surface: Surface, requests: list[tuple[float, float]]
) -> None:
    snrs, budgets = map(np.array, zip(*requests, strict=True))
    together = choose(surface, snrs, bits=budgets)
    for k, (snr, budget) in enumerate(requests):
        alone = choose(surface, snr, bits=budget)
        assert [part[k] for part in together] == pytest.approx([float(part) for part in alone])


def test_a_record_of_several_snrs_is_a_surface() -> None:
    from hvib.ledger.execution import execute

    run = hvib.make_run(
        "digits", "hyper-vib-snr", "smoke", betas=BETAS, snrs=SNRS, channel="awgn", mixed_snr=True
    )
    record = execute(run)
    surface = Surface.of_record(record)
    assert surface.higher_is_better
    assert surface.betas.tolist() == list(BETAS)
    for row in record.rows("validation", 10.0):
        found = surface.at(row["beta"], 10.0)
        assert found["metric"] == pytest.approx(row["metric"])
    test = Surface.of_record(record, "test")
    assert not np.array_equal(test.distortion, surface.distortion)


def system_of(
    channel: Channel | None = None, *, ordered: bool = False, plain: bool = False
) -> System:
    """With gates that differ clearly between states, in `eval` mode."""
    torch.manual_seed(0)
    ends = hvib.mlp([5, 8, 6]), hvib.mlp([3, 8, 2])
    system = System(*ends, channel or Steady(20.0), 3)
    if plain:
        made: torch.nn.Module = hvib.hyperize(system)
    else:
        made = stateful(system, (1e-4, 1.0), ordered=ordered)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if name.endswith(("gate.w", "gate.u", "gate.d", "gate.out.weight")):
                p.copy_(torch.randn(p.shape, generator=g))
    assert isinstance(made, System)
    return made.eval()


X = torch.linspace(-1, 1, 30).view(6, 5)
ASKED = [1e-3, 0.1, 1e-3, 1.0, 0.1, 1e-3], [-5.0, 10.0, 3.0, 25.0, 10.0, -5.0]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("channel", [Steady(20.0), Faded(10.0), Erasure(Steady(5.0), 0.3, 3)])
@pytest.mark.parametrize("ordered", [False, True])
def test_a_mixed_batch_answers_each_request_as_alone(channel: Channel, ordered: bool) -> None:
    system = system_of(channel, ordered=ordered)
    together = infer(system, X, *ASKED, generator())
    assert together.prediction.shape == (6, 2)
    noise = draw_noise(6, 1, system.chances, generator())
    for k, (beta, snr) in enumerate(zip(*ASKED, strict=True)):
        with torch.no_grad(), hvib.at(beta, snr_db=snr):
            alone = system(X[None, k : k + 1], noise[:, k : k + 1])
        torch.testing.assert_close(together.prediction[k], alone.prediction[0, 0])
        bits = alone.rates[0, 0].sum() / math.log(2)
        torch.testing.assert_close(together.bits[k], bits)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("channel", [Steady(20.0), Erasure(Steady(5.0), 0.3, 3)])
def test_cached_folds_answer_as_the_gated_system(channel: Channel, ordered: bool) -> None:
    system = system_of(channel, ordered=ordered)
    folded = Folded(system)
    for _ in range(2):
        gated = infer(system, X, *ASKED, generator())
        for one, other in zip(folded.infer(X, *ASKED, generator()), gated, strict=True):
            torch.testing.assert_close(one, other)
    assert folded.statistics == (4, 4, 4)  # four pairs of β and SNR, each folded once
    assert not any(isinstance(m, Gated) for m in folded.at(1e-3, -5.0).modules())


def test_one_beta_or_snr_for_all_and_the_channel_s_own() -> None:
    system = system_of()
    folded = Folded(system)
    for beta, snr in ((0.1, 20.0), (0.1, None), ([0.1] * 6, [20.0] * 6), (np.float64(0.1), None)):
        for one, other in zip(
            folded.infer(X, beta, snr, generator()),
            infer(system, X, 0.1, 20.0, generator()),
            strict=True,
        ):
            torch.testing.assert_close(one, other)
    assert folded.statistics.misses == 1


def test_gates_of_beta_alone_are_folded_once_for_all_snrs() -> None:
    for channel in (Steady(20.0), Faded(10.0)):
        system = system_of(channel, plain=True)
        folded = Folded(system)
        for one, other in zip(
            folded.infer(X, *ASKED, generator()),
            infer(system, X, *ASKED, generator()),
            strict=True,
        ):
            torch.testing.assert_close(one, other)
        assert folded.statistics == (0, 3, 3)


def test_the_cache_keeps_those_used_last() -> None:
    folded = Folded(system_of(), size=2)
    first = folded.at(0.1, 0.0)
    folded.at(0.1, 5.0)
    assert folded.at(0.1, 0.0) is first
    folded.at(0.1, 10.0)  # 5 dB goes
    assert folded.at(0.1, 0.0) is first
    folded.at(0.1, 5.0)
    assert folded.statistics == (2, 4, 2)
    # As Python's number, as a tensor's and as a choice's it is one β.
    chosen = choose(SURFACE, 10.0, bits=8.0, betas=[0.1, 1.0]).beta
    assert folded.at(float(torch.tensor(0.1)), 5.0) is folded.at(float(chosen), 5.0)


def test_threads_share_the_cache() -> None:
    system = system_of()
    folded = Folded(system, size=3)  # of four pairs, so that all the time one is dropped
    wanted = infer(system, X, *ASKED, generator()).prediction
    found: list[torch.Tensor] = []

    def ask() -> None:
        found.extend(folded.infer(X, *ASKED, generator()).prediction for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    for one in found:
        torch.testing.assert_close(one, wanted)
    hits, misses, held = folded.statistics
    assert (hits + misses, held) == (160, 3)


def test_what_cannot_be_answered_is_refused() -> None:
    system = system_of()
    for wrong, name in (
        ({"beta": [0.1, 0.2]}, "number of beta"),
        ({"beta": -1.0}, "beta"),
        ({"snr_db": [1.0, 2.0]}, "number of snr_db"),
        ({"snr_db": math.inf}, "snr_db"),
        ({"x": X[:0]}, "requests"),
    ):
        asked: dict[str, Any] = {"x": X, "beta": 0.1, "snr_db": 5.0, "generator": generator()}
        for answer in (lambda **told: infer(system, **told), Folded(system).infer):
            with pytest.raises(ValueError, match=name):
                answer(**(asked | wrong))
    with pytest.raises(ValueError, match="one β"):
        Folded(system).at([0.1, 0.2], 5.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one SNR"):
        Folded(system).at(0.1, [5.0, 6.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size"):
        Folded(system, 0)
    with pytest.raises(ValueError, match="gates"):
        Folded(hvib.fold(system, 0.1, 5.0))
    with pytest.raises(ValueError, match="channel = 'Faded'"):
        Folded(system_of(Faded(10.0)))
    with pytest.raises(ValueError, match=r"eval\(\)"):
        infer(system_of().train(), X, *ASKED, generator())


def test_a_choice_goes_straight_into_an_answer() -> None:
    snrs = np.array([0.0, 2.0, 4.0, 6.0, 8.0, 10.0])
    found = choose(SURFACE, snrs, bits=9.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = infer(system_of(), X, found.beta, snrs, generator())
    assert answers.bits.shape == (6,)


def plane(seed: int) -> Record:
    """On the study's grid: the metric rises with the bits, and test data take 2% more of them."""
    run = mixed("mnist", "awgn", seed, "hyper-vib-snr")
    curve = [
        {
            "split": split,
            "snr_db": snr,
            "beta": beta,
            "metric": 0.9 - seed / 1000 - 1 / (30 * bits),
            "distortion": 1 / bits,
            "rate_nats": bits * (1 + 0.02 * (split == "test")) * math.log(2),
        }
        for split in ("validation", "test")
        for snr in run.snrs
        for beta in run.betas
        for bits in [1.8 * (1 + (snr + 5) / 30) * 2 ** -math.log10(beta)]
    ]
    return Record(run, curve, 1.0, 1, 1, 1, {}, "0" * 32, None)


def test_regret_is_against_the_best_choice() -> None:
    found = regret([plane(seed) for seed in range(3)], requests(500))
    assert list(found) == list(POLICIES)
    assert found[BEST].regret == (0, 0, 0)
    assert found[BEST].over.mean == 0
    # What is chosen by validation data takes 2% too many bits, and those kept back make up for it.
    assert found[CHOSEN].most.mean == pytest.approx(0.02, abs=2e-3)
    assert found[CHOSEN].over.mean > 0.9
    assert found[CAREFUL].over.mean == 0
    for better, worse in ((CHOSEN, CAREFUL), (CAREFUL, BLIND), (CAREFUL, ON_GRID), (BLIND, ONE)):
        assert found[better].regret.mean < found[worse].regret.mean
    # The seeds differ in metric alone.
    assert found[BLIND].metric.half > 1e-3
    assert found[BLIND].regret.half < 1e-9
    with pytest.raises(ValueError, match="records"):
        regret([])


def test_requests_are_as_they_are_said_to_be() -> None:
    asked = requests(4000)
    assert (asked.snr_db.min() >= -5) & (asked.snr_db.max() <= 25)
    assert asked.snr_db.mean() == pytest.approx(10, abs=0.5)
    assert np.log2(asked.bits).mean() == pytest.approx(4.5, abs=0.1)
    assert all(np.array_equal(a, b) for a, b in zip(asked, requests(4000), strict=True))


def test_interpolation_is_right_where_the_law_is_simple() -> None:
    off = left_out(plane(0))
    assert off["bits"].shape == (3, 3)
    assert np.abs(off["bits"]).max() < 0.02  # along the SNR, where a logarithm is no straight line


def test_a_finer_record_is_judged_on_all_its_points() -> None:
    assert set(FINE_BETAS) >= set(BETAS_OF_STUDY)
    run, *_ = study(fine=True)
    assert (run.betas, run.snrs) == (FINE_BETAS, FINE_SNRS)
    assert [run.seed for run in study()] == [0, 1, 2]


def test_the_figure_and_the_table_show_the_policies() -> None:
    records = [plane(seed) for seed in range(3)]
    gained, chosen = figures.chosen_at_run_time(records).axes
    _, told, blind = gained.get_lines()
    assert (np.asarray(told.get_ydata()) > np.asarray(blind.get_ydata())).all()
    assert [text.get_text() for text in chosen.texts] == ["8 bits", "16 bits", "32 bits"]
    for drawn in chosen.get_lines():  # more bits at a higher SNR here, so a larger β
        assert (np.diff(np.asarray(drawn.get_ydata())) > 0).all()
    plt.close("all")
    found = regret(records, requests(100))
    head, *rows = lines(figures.choice_table(ACCURACY, found))
    assert "test accuracy (%)" in head
    assert "worse than the best (points)" in head
    assert [row.split(" | ")[0].lstrip("| ") for row in rows] == [
        policy.label for policy in POLICIES.values()
    ]
    told_facts = facts(records, found)
    assert told_facts["choice-seeds"] == 3
    assert told_facts["choice-best-over"] == "0%"
