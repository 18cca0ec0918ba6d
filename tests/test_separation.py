"""Separate source and channel coding: capacities, code lengths, budgets, figures."""

import itertools
import math
import zlib
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import lines, needs_mnist
from scipy import special

from hvib.book.figures import separation as figures
from hvib.channels.fading import Faded
from hvib.data import Split
from hvib.separation import measure as measuring
from hvib.separation.budget import Choice, Coded, Ladder, Step, accuracy, budgets, choose, ladder
from hvib.separation.capacity import (
    capacity,
    ergodic_capacity,
    finite_length,
    outage,
    outage_capacity,
    seconds,
    small_code_error,
    uses_for,
    water_filling_capacity,
)
from hvib.separation.classifiers import (
    adapted,
    built,
    convolutional,
    fit_classifier,
    logits_of,
    small_convolutional,
    task_mlp,
)
from hvib.separation.coders import Coder, PixelCoder, Setting, grow, lossless, shrink
from hvib.separation.features import LogitCoder, class_answers
from hvib.separation.measure import CLASS, Separation, separation_of
from hvib.separation.published import VL_VFE_MNIST

RAYLEIGH = -math.inf
FADING = [RAYLEIGH, 0.0, 6.0, 20.0]


def gains(k_db: float, count: int = 200_000) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    chances = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return Faded(0.0, k_db).power(chances).numpy().ravel()


def delivered(gain: np.ndarray, snr_db: float, uses: int) -> np.ndarray:
    return uses / 2 * np.log2(1 + gain * 10 ** (snr_db / 10))


def test_capacity_by_hand() -> None:
    assert capacity(0, 64) == pytest.approx(32)
    np.testing.assert_allclose(capacity([0, 10 * math.log10(3)], 2), [1, 2])
    assert uses_for(32, 0) == 64
    assert uses_for(32.1, 0) == 65
    assert seconds(64, 1000) == pytest.approx(0.032)


def test_a_code_of_finite_length_is_below_capacity_and_nears_it() -> None:
    shares = [float(finite_length(5, n, 1e-3) / capacity(5, n)) for n in (64, 1024, 65_536)]
    assert 0.5 < shares[0] < shares[1] < shares[2] < 1
    assert shares[2] > 0.98
    # At ε = 1/2 only the logarithm is left, cut at capacity.
    assert finite_length(5, 64, 0.5) == pytest.approx(float(capacity(5, 64)))
    assert finite_length(-10, 8, 1e-6) == 0


@pytest.mark.parametrize(("uses", "messages"), [(9, 10), (64, 10), (5, 10), (8, 10), (1, 2)])
@pytest.mark.parametrize("snr_db", [-12.0, -3.0, 3.0])
def test_a_simple_code_against_monte_carlo(uses: int, messages: int, snr_db: float) -> None:
    simplex = messages <= uses + 1
    words = np.eye(messages) - 1 / messages
    words = words if simplex else np.concatenate([np.eye(messages // 2), -np.eye(messages // 2)])
    words *= math.sqrt(uses * 10 ** (snr_db / 10)) / np.linalg.norm(words[0])
    generator = np.random.default_rng(0)
    received = words[0] + generator.normal(size=(100_000, words.shape[1]))
    wrong = ((received @ words.T).argmax(1) != 0).mean()
    assert small_code_error(snr_db, uses, messages) == pytest.approx(wrong, abs=0.008)


@pytest.mark.parametrize("k_db", FADING)
@pytest.mark.parametrize("snr_db", [-10.0, 5.0, 25.0])
def test_fading_against_monte_carlo(k_db: float, snr_db: float) -> None:
    found = delivered(gains(k_db), snr_db, 64)
    wide = 5 * found.std() / math.sqrt(len(found))
    assert ergodic_capacity(snr_db, 64, k_db) == pytest.approx(found.mean(), abs=wide)
    bits = 0.8 * found.mean()
    assert outage(snr_db, 64, bits, k_db) == pytest.approx((found < bits).mean(), abs=0.006)
    most = outage_capacity(snr_db, 64, 0.1, k_db)
    assert most == pytest.approx(np.quantile(found, 0.1), rel=0.02)
    assert outage(snr_db, 64, most, k_db) == pytest.approx(0.1)


def test_rayleigh_fading_in_closed_form() -> None:
    snr = 10 ** (np.array([-20.0, 0.0, 30.0]) / 10)
    known = 0.5 * math.log2(math.e) * np.exp(1 / snr) * special.exp1(1 / snr)
    np.testing.assert_allclose(ergodic_capacity([-20, 0, 30]), known[[0, 1, 2]], rtol=1e-9)
    # Barely a direct path: the integral must agree with the closed form.
    np.testing.assert_allclose(ergodic_capacity([-20, 0, 30], 1, -90), known, rtol=1e-7)
    assert outage(0, 2, 1, RAYLEIGH) == pytest.approx(1 - math.exp(-1))


@pytest.mark.parametrize("snr_db", [-15.0, 0.0, 20.0])
def test_water_filling_gains_most_at_low_snr(snr_db: float) -> None:
    found = float(water_filling_capacity(snr_db))
    assert found > float(ergodic_capacity(snr_db))
    # Against its definition: of all cutoffs that spend the power, on draws.
    gain = gains(RAYLEIGH)
    cutoffs = np.geomspace(1e-4, 10, 4000)
    spent = [(1 / c - 1 / gain[gain > c]).sum() / len(gain) for c in cutoffs]
    cutoff = np.interp(-(10 ** (snr_db / 10)), -np.array(spent), cutoffs)
    drawn = 0.5 * np.log2(gain[gain > cutoff] / cutoff).sum() / len(gain)
    assert found == pytest.approx(drawn, rel=0.03)


def test_much_of_a_direct_path_is_no_fading() -> None:
    assert ergodic_capacity(10, 64, 60) == pytest.approx(float(capacity(10, 64)), rel=1e-4)
    assert water_filling_capacity(10, 64, 40) == pytest.approx(float(capacity(10, 64)), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: capacity(math.nan, 64), "snr_db = nan: give finite numbers of dB"),
        (lambda: capacity("10", 64), "snr_db = '10': give finite numbers of dB"),
        (lambda: capacity(10, 0), "uses = 0: give at least 1"),
        (lambda: capacity(10, 1.5), "uses = 1.5: give a whole number"),  # type: ignore[arg-type]
        (lambda: finite_length(10, 64, 0), "error = 0: give a probability"),
        (lambda: small_code_error(10, 4, 10), "messages = 10: give at most 8 for 4 channel uses"),
        (lambda: outage(10, 64, -1), "bits = -1: give numbers of bits"),
        (lambda: ergodic_capacity(10, 64, math.nan), "k_db = nan: give a finite number"),
        (lambda: seconds(64, 0), "bandwidth_hz = 0: give a width"),
        (lambda: Setting("GIF", 28, 1), "coder = 'GIF': unknown; choose one of JPEG"),
        (lambda: Setting("JPEG", 28, 0), "level = 0: give 1 to 95"),
        (lambda: choose([], 10), r"coded = \[\]: give at least one setting"),
        (lambda: measuring.measure("wifi"), "task = 'wifi': unknown; choose one of mnist"),
        (lambda: LogitCoder(11, 1.0, np.zeros((5, 10))), "components = 11: give at most the 10"),
    ],
)
def test_bad_input_gets_one_clear_error(call: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        call()


def strokes(count: int, seed: int = 0) -> torch.Tensor:
    """Images (N, 1, 28, 28) of one bar of light each, and dark around it."""
    generator = np.random.default_rng(seed)
    images = np.zeros((count, 1, 28, 28), np.uint8)
    for image in images:
        row, column = generator.integers(4, 18, 2)
        image[0, row : row + 6, column : column + 3] = 255
    return torch.from_numpy(images)


def test_the_pixel_coder_is_lossless_and_shorter_than_counting_pixels() -> None:
    train, test = strokes(2000), strokes(100, 1)
    bits, decoded = PixelCoder(256, train)(test)
    torch.testing.assert_close(decoded, test)
    two, back = PixelCoder(2, train)(test)
    torch.testing.assert_close(back, test)  # black and white images have two levels
    # 196 images are possible: 7.6 bits at best, and zlib is far from it.
    assert 7.6 < two.mean() < 40
    assert bits.mean() < 8 * len(zlib.compress(test[0].numpy().tobytes(), 9))


def test_a_code_length_is_that_of_a_distribution() -> None:
    """Kraft: over all images of 2 × 2 pixels of two levels the code lengths sum to one."""
    train = (torch.rand(50, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 255).byte()
    every = torch.tensor(list(itertools.product((0, 255), repeat=4)), dtype=torch.uint8)
    bits, _ = PixelCoder(2, train)(every.view(-1, 1, 2, 2))
    assert np.exp2(-bits).sum() == pytest.approx(1)


def test_levels_are_spread_over_black_to_white() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    _, decoded = PixelCoder(4, ramp)(ramp)
    assert decoded.unique().tolist() == [0, 85, 170, 255]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("coder", ["JPEG", "WebP"])
def test_better_quality_takes_more_bits_and_errs_less(coder: str, channels: int) -> None:
    images = strokes(20).repeat(1, channels, 1, 1)
    found = [Coder(Setting(coder, 16, quality), images) for quality in (1, 90)]
    (few, rough), (many, fine) = (coder(images) for coder in found)
    assert 0 < few.mean() < many.mean()
    assert rough.shape == fine.shape == images.shape
    aim = grow(shrink(images, 16), 28).float()
    assert (fine.float() - aim).abs().mean() < (rough.float() - aim).abs().mean()


def test_lossless_ways() -> None:
    ways = {name: bits.mean() for name, bits in lossless(strokes(500), strokes(50, 1)).items()}
    assert ways["raw"] == 6272
    assert ways["arithmetic coder"] < ways["PNG"] < ways["raw"]
    # The data alone of a PNG file, by zlib at its best and without 57 bytes of other chunks.
    assert ways["PNG"] < 8 * 120


def logits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = generator.integers(10, size=count)
    return 8 * np.eye(10)[y] + generator.normal(0, 0.3, (count, 10)), y


def test_logits_quantised_coarsely_cost_little_more_than_the_class() -> None:
    (train, _), (test, y) = logits(20_000), logits(2000, 1)
    bits, found = LogitCoder(9, 2.0, train)(test)
    assert math.log2(10) - 0.05 < bits.mean() < 5
    assert (found == y).mean() > 0.99
    fine, _ = LogitCoder(9, 0.25, train)(test)
    assert fine.mean() > bits.mean() + 3


def test_fewer_messages_than_classes_name_the_most_frequent() -> None:
    y = np.array([0, 0, 1, 1, 2, 2])
    answers = class_answers(y, y, np.array([2, 0, 1]))
    assert [name for name, _, _ in answers] == ["nothing", "2 messages", "3 messages"]
    assert [right.mean() for _, _, right in answers] == pytest.approx([1 / 3, 2 / 3, 1])
    assert answers[2][1][0] == pytest.approx(math.log2(3))


def coded() -> list[Coded]:
    """Nothing, a small setting right on half, and a large one of which half the images fit."""
    half = np.arange(4) % 2 == 0
    return [
        Coded("nothing", np.zeros(4), np.arange(4) == 0),
        Coded("small", np.full(4, 5.0), half),
        Coded("large", np.array([9.0, 9, 20, 20]), np.ones(4, bool)),
    ]


def test_a_bit_says_which_of_two_settings_an_image_has() -> None:
    assert choose(coded(), 0) == Choice(0, None)
    assert choose(coded(), 5) == Choice(1, None)
    assert accuracy(coded(), Choice(2, None), 9) == 0.5
    assert choose(coded(), 10) == Choice(2, 1)
    assert accuracy(coded(), Choice(2, 1), 10) == 0.75
    assert accuracy(coded(), Choice(2, 1), 9) == 0.5  # the bit is not there
    assert choose(coded(), 20) == Choice(2, None)
    steps = ladder(coded(), coded(), budgets(10))
    assert [(s.bits, s.validation) for s in steps] == [(0, 0.25), (5, 0.5), (10, 0.75), (20, 1)]
    assert [s.second for s in steps] == [None, None, "small", None]


def test_accuracy_over_channels() -> None:
    found = Ladder.of(ladder(coded(), coded(), budgets(10)))
    np.testing.assert_allclose(found.at([0, 4.9, 5, 19, 1e9]), [0.25, 0.25, 0.5, 0.75, 1])
    snr_db = np.array([-20.0, 0, 10, 40])
    ideal = found.over_awgn(snr_db, 10)  # 0.07, 5, 17, 66 bits
    np.testing.assert_allclose(ideal, [0.25, 0.5, 0.75, 1])
    short = found.over_awgn_of_length(snr_db, 10)
    assert (short <= ideal).all()
    assert (np.diff(short) > 0).all()
    sent = found.over_small_code([-90.0, 20.0], 64, 32)
    np.testing.assert_allclose(sent, [0.5 / 32, 0.5], rtol=1e-2)
    assert found.over_fading(40.0, 10, 60.0) == pytest.approx(1)
    faded = found.over_fading(snr_db, 10)
    at_five = 0.5 * (1 - float(outage(10, 10, 5)))
    assert faded[2] >= max(at_five, 0.25) - 1e-12
    assert faded[3] < 1


@pytest.mark.parametrize("build", [convolutional, small_convolutional, task_mlp])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_classifiers_take_images(build: Any, shape: tuple[int, ...]) -> None:
    x = torch.zeros(3, *shape, dtype=torch.uint8)
    model = built(build, shape, 10, 0).eval()
    assert logits_of(model, x).shape == (3, 10)
    again = built(build, shape, 10, 0).eval()
    torch.testing.assert_close(logits_of(again, x), logits_of(model, x))


def test_a_classifier_learns_and_is_tuned_as_a_copy() -> None:
    x = torch.cat([strokes(256), 255 - strokes(256)])
    split = Split(x, torch.arange(512) // 256)
    model = built(small_convolutional, (1, 28, 28), 2, 0)
    fit_classifier(model, [split] * 3, rate=3e-3, seed=0, batch=64)
    assert (logits_of(model, x).argmax(1) == split.y).float().mean() > 0.95
    before = {name: value.clone() for name, value in model.state_dict().items()}
    own = adapted(model, split, rate=1e-3, seed=0, shift=1, flip=False)
    torch.testing.assert_close(dict(model.state_dict()), before)
    assert any((own.state_dict()[name] != value).any() for name, value in before.items())
    with pytest.raises(ValueError, match="batch = 1000: give at most the 512 training images"):
        fit_classifier(model, [split], rate=1e-3, seed=0, batch=1000)


def made_up(seeds: int = 2) -> Separation:
    """A record in which all coders but one have the same steps."""
    low, high = Step(0.0, "nothing", None, 0.1, 0.1), Step(3.321928095, "all", None, 0.99, 0.98)
    large = high._replace(bits=100.0)
    coders = {CLASS: high, measuring.CLASS_MLP: high, "pixels": large, "JPEG": large}
    steps = [
        {"coder": coder, "seed": seed, **step._asdict()}
        for coder, last in coders.items()
        for seed in range(seeds)
        for step in (low, last)
    ]
    return separation_of({"rows": [], "steps": steps})


def test_figures_and_tables() -> None:
    found = made_up()
    curve = figures.Curve([0, 10, 20], np.array([[0.5, 0.9, 0.98], [0.4, 0.9, 0.97]]))
    figure = figures.accuracy_over_snr(
        found, others={64: {"Hyper-VIB": curve}}, published={64: VL_VFE_MNIST}
    )
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told[-2:] == [
        "Hyper-VIB",
        "VL-VFE, released models (32 to 33 uses, SNR of the peak)",
    ]
    assert [axes.get_title("left") for axes in figure.axes] == [
        f"{n} channel uses" for n in (8, 16, 32, 64)
    ]
    figures.accuracy_over_bits(found)
    plt.close("all")
    _, row, *_ = lines(figures.separation_table(found, [(64, 0)]))
    assert row == "| the class, found in the device | 98.00 ± 0.00 |"
    _, row, _, pixels, _ = lines(figures.latency_table(found, 0.9, 0.0, 1000))
    assert row == "| the class, found in the device | 3.3 | 7 | 3.50 |"
    assert pixels.endswith("| 100.0 | 200 | 100.00 |")
    assert "not reached" in lines(figures.latency_table(found, 0.99, 0.0))[1]
    rows = figures.separation_rows(found, [8], np.array([0.0, 20.0]))
    assert [r["test accuracy"] for r in rows[:2]] == [0.98, 0.98]
    with pytest.raises(ValueError, match="coders = 'WebP': choose of those on record: class"):
        figures.accuracy_over_snr(found, coders=("WebP",))


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_figure_of_one_seed_has_no_band(seeds: int) -> None:
    figure = figures.accuracy_over_snr(made_up(seeds), (64,))
    assert len(figure.axes) == 1
    plt.close("all")


@needs_mnist
def test_measured_filed_and_read(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = (Setting("pixels", 5, 2), Setting("JPEG", 8, 5))
    plan = {**measuring._PLANS["mnist"], "settings": few}
    monkeypatch.setitem(measuring._PLANS, "mnist", plan)
    with pytest.raises(FileNotFoundError, match="measure it first"):
        measuring.recorded("mnist")
    values = measuring.measure(
        "mnist", seeds=(0,), limit=500, epochs={"class": 1, "mlp": 1, "mixed": 1}
    )
    path = measuring.file_record(values)
    assert path == results / "separation" / "mnist.json"
    found = measuring.recorded("mnist")
    assert found.rows == values["rows"]
    assert set(found.ladders) == set(figures.LABELS) - {"WebP"}
    path.write_text(path.read_text().replace("0.0", "0.1", 1))
    with pytest.raises(ValueError, match="damaged"):
        measuring.recorded("mnist")
