"""How far recorded curves are from the optimum: bounds, and the envelope of all methods."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from hvib.book.curves import Curve, Curves, Key, collect
from hvib.book.ranging import bound_of
from hvib.book.statistics import Interval, interval, over_seeds
from hvib.channel import AWGN
from hvib.check import require
from hvib.ledger import Record, records
from hvib.methods import METHODS
from hvib.ranging.simulate import LINKS, SPEED_OF_LIGHT, Multipath, simulate
from hvib.run import Run, beta_grid
from hvib.tasks import TASKS, load, make_run
from hvib.tasks.ranging import HELD_OUT, SEEDS
from hvib.theory.information import entropy
from hvib.theory.linear import joint_response
from hvib.theory.lower_bounds import (
    bayesian_floor,
    cross_entropy_bound,
    line_code,
    remote_shannon_bound,
    shannon_bound,
    uniform_entropy_power,
)

Array = Float[np.ndarray, " beta"]


def curves_on_record(tasks: Iterable[str]) -> dict[str, dict[Key, list[Curve]]]:
    """For each task the curves of every method that is on record at the settings of its page.

    Methods, epochs and seeds differ. A record with any other setting changed is left out, and so
    is a seed that does not answer for the whole grid of β. Nothing is trained.
    """
    grid = beta_grid()
    found: dict[str, dict[tuple[str, int, int], list[Record]]] = {task: {} for task in tasks}
    for record in records():
        run = record.config
        if run.task in found and _is_usual(run, grid):
            seed = (run.method, run.epochs, run.seed)
            found[run.task].setdefault(seed, []).append(record)
    return {
        task: collect(
            record
            for of_seed in seeds.values()
            if sorted(beta for one in of_seed for beta in one.config.betas) == list(grid)
            for record in of_seed
        )
        for task, seeds in found.items()
    }


def _is_usual(run: Run, grid: tuple[float, ...]) -> bool:
    """Whether a run has its page's settings, but for its method, epochs and seed."""
    one_range = run.betas == grid or (len(run.betas) == 1 and run.betas[0] in grid)
    # A reader's own method may be on record and not registered here.
    if run.profile != "full" or not one_range or run.method not in METHODS.all():
        return False
    usual = make_run(run.task, run.method, seed=run.seed, betas=run.betas)
    return run == replace(usual, epochs=run.epochs)


class Envelope(NamedTuple):
    """The lowest mean test objective of any method at each β."""

    betas: Array
    objective: Interval
    """of the method that is lowest there, over its seeds"""
    keys: tuple[Key, ...]
    """that method, with its number of epochs"""


def envelope(curves: Curves) -> Envelope:
    """The lower envelope of all methods on record.

    Each method has at each β the number of epochs whose mean validation objective is least. The
    lowest mean test objective of the methods makes the envelope. Curves of fewer seeds than the
    most are left out, because their means are noisier and a minimum would favour the noise.

    Raises:
        ValueError: there is no curve.
    """
    require(len(curves) > 0, "curves", list(curves), "give one at least")
    most = max(len(group) for group in curves.values())
    whole = {key: group for key, group in curves.items() if len(group) == most}
    betas = _grid(whole)
    chosen = [_lowest(whole, beta) for beta in betas]
    parts = [
        over_seeds(whole[key], "objective").at(_index(whole[key], beta))
        for key, beta in zip(chosen, betas, strict=True)
    ]
    objective = Interval(*map(np.array, zip(*parts, strict=True)))
    return Envelope(betas, objective, tuple(chosen))


def _index(group: Sequence[Curve], beta: float) -> int:
    """The place of a β among a group's."""
    return int(np.flatnonzero(group[0].betas == beta)[0])


def _lowest(curves: Curves, beta: float) -> Key:
    """The method of the lowest test objective at a β, at its epochs of the best validation one."""

    def mean(key: Key, split: str) -> float:
        return float(over_seeds(curves[key], "objective", split).mean[_index(curves[key], beta)])

    here = [key for key, group in curves.items() if beta in group[0].betas]
    methods = dict.fromkeys(key.method for key in here)
    best = [
        min((key for key in here if key.method == method), key=lambda key: mean(key, "validation"))
        for method in methods
    ]
    return min(best, key=lambda key: mean(key, "test"))


def gap(curves: Sequence[Curve], betas: Array, reference: Array) -> Interval:
    """The test objective above a reference, relative to it, with its interval over seeds.

    Args:
        betas: those of the reference.
        reference: a bound, or the envelope's mean; it has no seeds.

    Returns:
        C / reference − 1 at each of the curves' β.

    Raises:
        ValueError: the reference lacks one of the curves' β.
    """
    asked = curves[0].betas
    missing = np.setdiff1d(asked, betas)
    require(len(missing) == 0, "betas", missing.tolist(), "give the reference at these too")
    there = np.asarray(reference)[np.searchsorted(betas, asked)]
    return interval(np.stack([curve.column("objective", "test") / there - 1 for curve in curves]))


def excess_over_envelope(curves: Sequence[Curve], lowest: Envelope) -> Interval:
    """`gap` to the envelope of all methods: C / envelope − 1 on test data at each β."""
    return gap(curves, lowest.betas, lowest.objective.mean)


class Bounds(NamedTuple):
    """What no system undercuts on one task, at each β."""

    betas: Array
    certified: Array
    """holds for every device and network, by what is known of the source alone"""
    assumed: Array
    """holds if no system has a test distortion below `least`; for ranging also if E[y|x] has the
    entropy of y"""
    simple: Array
    """what a simple system attains, so that the minimum is no higher (`simple_system`)"""
    floor: float
    """the distortion that the certified bound knows to be out of reach"""
    least: float
    """the least mean test distortion of any method on record"""


CLASS_COUNTS = {
    "mnist": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    "cifar10": (1000,) * 10,
}
"""How many test examples each class has, where the data need files that a reader may not have."""


def class_probabilities(task: str) -> Float[np.ndarray, " C"]:
    """The share of each class among a task's test examples."""
    counts = CLASS_COUNTS.get(task)
    if counts is None:
        counts = tuple(np.bincount(load(task).test.y.numpy()))
    return np.array(counts) / sum(counts)


def least_distortion(curves: Curves) -> float:
    """The least test distortion of any curve at any β, each a mean over seeds."""
    return min(float(over_seeds(g, "distortion").mean.min()) for g in curves.values())


def ranging_floor(task: str) -> float:
    """A squared error in ns² that no estimator of the propagation time undercuts.

    It is that of an estimator which is told the channel's shape: `bayesian_floor` of
    `known_shape_bound`, over the channels of the test data.
    """
    channels = simulate(LINKS[task], HELD_OUT, SEEDS["test"])
    return bayesian_floor(bound_of(channels) ** 2, _delay_width())


def simple_system(task: str, curves: Curves) -> Array:
    """The objective of the best inference on record, sent with a simple code on one feature.

    The system infers as well as the best method on record at any β. Classes are sent by
    `line_code`, and a propagation time by the linear code of Theorem 2, whose error adds to that of
    the inference.
    """
    betas, noise = _grid(curves), _noise_variance(curves)
    if TASKS.find(task).metric.of_classes:
        p = class_probabilities(task).tolist()
        right = max(float(over_seeds(group, "metric").mean.max()) for group in curves.values())
        return np.array([line_code(p, beta, noise, right).objective for beta in betas])
    power = _delay_width() ** 2 / 12  # the variance of a uniform variable
    return least_distortion(curves) + joint_response(power, betas, noise).objective


def bounds_of(task: str, curves: Curves) -> Bounds:
    """The bounds of a task at the β of its curves.

    Args:
        curves: all of the task's, whose least distortion the assumed bound takes.
    """
    betas, least = _grid(curves), least_distortion(curves)
    if TASKS.find(task).metric.of_classes:
        floor, H = 0.0, entropy(class_probabilities(task))
        certified = cross_entropy_bound(H, betas)
        assumed = cross_entropy_bound(H, betas, least)
    else:
        floor, power = ranging_floor(task), uniform_entropy_power(_delay_width())
        certified = shannon_bound(power, betas, floor)
        assumed = remote_shannon_bound(power, betas, least)
    simple = simple_system(task, curves)
    return Bounds(betas, certified.objective, assumed.objective, simple, floor, least)


def _grid(curves: Curves) -> Array:
    """All β of any curve, ascending."""
    return np.unique(np.concatenate([group[0].betas for group in curves.values()]))


def _noise_variance(curves: Curves) -> float:
    """σ² of the channel on which the curves were trained."""
    return AWGN(next(iter(curves.values()))[0].records[0].config.snr_db).variance


def _delay_width() -> float:
    """The range in ns over which the simulated propagation times are uniform."""
    scene = Multipath()
    return (scene.max_distance_m - scene.min_distance_m) / SPEED_OF_LIGHT
