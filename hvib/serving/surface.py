"""What one system gives and costs over the plane β × SNR, as a value."""

import itertools
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from hvib.check import require
from hvib.checks import numbers
from hvib.ledger import Record
from hvib.serving.smooth import finer, monotone
from hvib.tasks import TASKS

Array = Float[np.ndarray, "..."]

COLUMNS = ("metric", "distortion", "bits")
"""What a surface holds."""

SLACK = 1e-3
"""How far beyond a range counts as its end, in dB and relative to β: more than float32 rounds."""

LEAST = 1e-6
"""Bits below which a rate is as good as none; its logarithm has to be finite."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Metric, distortion and rate over a grid of β × SNR, linear in log β and in dB between.

    Between two β of the grid linear interpolation is what a server gets on average that takes one
    of the two by chance, with the weights of the interpolation. What the system itself gives at a β
    between is as a rule better: of a grid of one β a decade, several points of accuracy at a few
    bits. `smooth` comes closer to it.

    Args:
        betas: ascending.
        snrs_db: ascending, in dB.
        metric: as the records have it, accuracy in [0, 1] or MSE.
        distortion: in nats or squared units of the target.
        bits: the rate of an inference in bits.
        higher_is_better: whether a larger metric is better, as of accuracy.

    Raises:
        ValueError: an axis does not ascend, a β is not positive, a column has another shape, or a
            number is not finite.
    """

    betas: Float[np.ndarray, " B"]
    snrs_db: Float[np.ndarray, " S"]
    metric: Float[np.ndarray, "S B"]
    distortion: Float[np.ndarray, "S B"]
    bits: Float[np.ndarray, "S B"]
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        for name in ("betas", "snrs_db", *COLUMNS):
            values = np.array(getattr(self, name), dtype=float)
            values.setflags(write=False)  # a value: nobody changes it under a server
            object.__setattr__(self, name, values)
            require(bool(np.isfinite(values).all()), name, "NaN or infinite", "give finite values")
        for name in ("betas", "snrs_db"):
            axis = getattr(self, name)
            rises = axis.ndim == 1 and len(axis) > 0 and bool((np.diff(axis) > 0).all())
            require(rises, name, axis.tolist(), "give at least one, in ascending order")
        require(bool(self.betas[0] > 0), "betas", self.betas.tolist(), "give β > 0")
        shape = (len(self.snrs_db), len(self.betas))
        for name in COLUMNS:
            found = getattr(self, name).shape
            require(found == shape, name, found, f"give a row for each SNR, {shape}")

    @classmethod
    def of_rows(
        cls, rows: Iterable[Mapping[str, Any]], *, higher_is_better: bool = True
    ) -> "Surface":
        """The surface that rows of `hvib.evaluate` are, each with its `snr_db` besides.

        Args:
            rows: of one split: one for each β at each SNR, in any order.

        Raises:
            ValueError: a row has no SNR or lacks a column, a pair of β and SNR is missing, or is
                there twice.
        """
        found: dict[tuple[float, float], Mapping[str, Any]] = {}
        for row in rows:
            for name in ("beta", "snr_db", "metric", "distortion", "rate_nats"):
                mend = "give each row its `snr_db`, and all columns of `hvib.evaluate`"
                require(row.get(name) is not None, f"a row's {name}", None, mend)
            key = float(row["snr_db"]), float(row["beta"])
            mend = "it is there twice: give the rows of one split and of one system"
            require(key not in found, "(snr_db, beta) of a row", key, mend)
            found[key] = row
        require(bool(found), "rows", [], "give one for each β at each SNR")
        snrs, betas = (sorted(set(axis)) for axis in zip(*found, strict=True))
        for key in itertools.product(snrs, betas):
            require(key in found, "(snr_db, beta)", key, "it has no row: evaluate all β at all SNR")

        def column(name: str, factor: float = 1) -> Array:
            return factor * np.array([[found[snr, b][name] for b in betas] for snr in snrs])

        bits = column("rate_nats", 1 / math.log(2))
        parts = column("metric"), column("distortion"), bits
        return cls(np.array(betas), np.array(snrs), *parts, higher_is_better=higher_is_better)

    @classmethod
    def of_record(cls, record: Record, split: str = "validation") -> "Surface":
        """The surface of a record whose run names several SNR.

        Raises:
            ValueError: it names none, or the record has no such split.
        """
        better = TASKS.find(record.config.task).metric.higher_is_better
        return cls.of_rows(record.rows(split), higher_is_better=better)

    def only(self, betas: Iterable[float], snrs_db: Iterable[float]) -> "Surface":
        """The surface of these points of its grid alone.

        Raises:
            ValueError: one is no point of the grid.
        """

        def places(name: str, grid: Array, wanted: Iterable[float]) -> Array:
            found = {float(value): place for place, value in enumerate(grid)}
            missing = sorted(set(wanted := list(wanted)) - set(found))
            require(not missing, name, missing, f"choose of the grid's {grid.tolist()}")
            return np.array(sorted(found[value] for value in wanted))

        rows, columns = places("snrs_db", self.snrs_db, snrs_db), places("betas", self.betas, betas)
        part = {name: getattr(self, name)[np.ix_(rows, columns)] for name in COLUMNS}
        return replace(self, betas=self.betas[columns], snrs_db=self.snrs_db[rows], **part)

    def smooth(self, times: int = 8) -> "Surface":
        """A finer surface through the same points, by monotone cubic curves.

        They run over log β and then over the SNR: those of metric and distortion themselves, and of
        the logarithm of the rate, which is nearer to straight. No curve leaves the range of the
        two points that it is between. On records of MNIST the rate is then off by a few percent
        half-way between two β of a decade.

        Args:
            times: equal steps in log β and in dB for each of the grid.

        Raises:
            ValueError: `times` is no whole number of at least 1.
        """
        times = numbers.count("times", times)
        log_betas, snrs = np.log(self.betas), self.snrs_db
        betas, fine_snrs = np.exp(finer(log_betas, times)), finer(snrs, times)
        betas[::times] = self.betas  # exactly

        def through(values: Array) -> Array:
            over_beta = monotone(log_betas, values, finer(log_betas, times))  # (S, B·times)
            return monotone(snrs, over_beta.T, fine_snrs).T

        log_bits = np.log(np.maximum(self.bits, LEAST))
        return replace(
            self,
            betas=betas,
            snrs_db=fine_snrs,
            metric=through(self.metric),
            distortion=through(self.distortion),
            bits=np.exp(through(log_bits)),
        )

    @property
    def sign(self) -> int:
        """1 or −1: `sign * metric` is larger for the better."""
        return 1 if self.higher_is_better else -1

    def over_beta(self, snr_db: Float[np.ndarray, " K"]) -> dict[str, Float[np.ndarray, "K B"]]:
        """Each column at the β of the grid, interpolated to each SNR.

        Beyond the range the nearer end's values are taken, with a warning: the weather may bring an
        SNR that nobody measured, and a server has to answer all the same.

        Raises:
            ValueError: an SNR is not finite.
        """
        bad = snr_db[~np.isfinite(snr_db)].tolist()
        require(not bad, "snr_db", bad, "give finite numbers of dB")
        low, high = self.snrs_db[0], self.snrs_db[-1]
        beyond = snr_db[(snr_db < low - SLACK) | (snr_db > high + SLACK)]
        if beyond.size:
            message = (
                f"snr_db = {beyond.min():g} to {beyond.max():g} for {beyond.size} requests: the "
                f"surface was measured from {low:g} to {high:g} dB, and the nearer end is taken"
            )
            warnings.warn(message, stacklevel=3)  # whoever calls `choose` or `at`
        index, weight = position(self.snrs_db, snr_db)
        above = np.minimum(index + 1, len(self.snrs_db) - 1)

        def between(values: Float[np.ndarray, "S B"]) -> Float[np.ndarray, "K B"]:
            return values[index] + weight[:, None] * (values[above] - values[index])

        return {name: between(getattr(self, name)) for name in COLUMNS}

    def at(
        self, beta: float | Float[np.ndarray, " *K"], snr_db: float | Float[np.ndarray, " *K"]
    ) -> dict[str, Float[np.ndarray, " *K"]]:
        """Each column at each pair of β and SNR, `metric`, `distortion` and `bits`.

        Raises:
            ValueError: a β is beyond the range, which a caller can help, or an SNR is not finite.
        """
        betas, snrs = np.broadcast_arrays(np.asarray(beta, float), np.asarray(snr_db, float))
        self.require_inside("beta", betas)
        rows = self.over_beta(snrs.ravel())
        where = position(np.log(self.betas), np.log(betas.ravel()))
        return {name: along(rows[name], *where).reshape(betas.shape) for name in COLUMNS}

    def require_inside(self, name: str, betas: Float[np.ndarray, " *K"]) -> None:
        """Refuse β that the surface does not reach to.

        Raises:
            ValueError: there is one.
        """
        low, high = self.betas[0], self.betas[-1]
        inside = (betas >= low * (1 - SLACK)) & (betas <= high * (1 + SLACK))
        mend = f"the surface was measured from {low:g} to {high:g}"
        require(bool(inside.all()), name, betas[~inside].tolist(), mend)

    def least_bits(self, snr_db: float | Float[np.ndarray, " *K"]) -> Float[np.ndarray, " *K"]:
        """The least bits at each SNR, below which no budget can be kept."""
        return self._extreme("bits", snr_db, -1)

    def best_metric(self, snr_db: float | Float[np.ndarray, " *K"]) -> Float[np.ndarray, " *K"]:
        """The best metric at each SNR, beyond which no wish can be met."""
        return self._extreme("metric", snr_db, self.sign)

    def _extreme(self, name: str, snr_db: float | Array, sign: int) -> Array:
        snrs = np.asarray(snr_db, float)
        # What is linear between the points is largest at one of them.
        most = (sign * self.over_beta(snrs.ravel())[name]).max(-1)
        return (sign * most).reshape(snrs.shape)


def position(grid: Float[np.ndarray, " G"], at: Float[np.ndarray, " K"]) -> tuple[Array, Array]:
    """Between which points of an ascending grid each value is: index of the lower, and weight.

    A value beyond the grid is at its end.
    """
    exact = np.interp(at, grid, np.arange(len(grid)))
    index = np.minimum(exact.astype(int), max(len(grid) - 2, 0))
    return index, exact - index


def along(
    rows: Float[np.ndarray, "K G"],
    index: Float[np.ndarray, " K"],
    weight: Float[np.ndarray, " K"],
) -> Float[np.ndarray, " K"]:
    """Each row at its own place, linear between its points."""
    each = np.arange(len(rows))
    above = np.minimum(index + 1, rows.shape[1] - 1)
    low = rows[each, index]
    return low + weight * (rows[each, above] - low)
