"""A run is a value: everything that determines it, in one frozen dataclass.

`Run` is what the ledger files a result under, what the command line builds and what a
notebook varies. `make_run` fills one in from a task, a method and a profile.
"""

import hashlib
import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, get_args

from hvib.check import require, require_known

Profile = Literal["smoke", "quick", "full"]

Device = Literal["auto", "cpu", "cuda"]

Precision = Literal["auto", "bfloat16", "float32"]

_SEVERAL = ("betas", "snrs", "prices")
"""fields that are several numbers"""


def beta_grid(
    beta_min: float = 1e-6, beta_max: float = 1.0, per_decade: int = 2
) -> tuple[float, ...]:
    """The β at which every method is evaluated: evenly spaced in log β, both ends included.

    The default has 13 values, half a decade apart: the paper evaluates every "0.5 orders of
    magnitude" (section IV-B).

    Raises:
        ValueError: a bound is not finite and positive, or the range is reversed.
    """
    for name, value in (("beta_min", beta_min), ("beta_max", beta_max)):
        require(math.isfinite(value) and value > 0, name, value, "give a finite β > 0")
    require(
        beta_min <= beta_max,
        "beta_min",
        beta_min,
        f"the range is reversed; give beta_min ≤ beta_max = {beta_max!r}",
    )
    low, high = math.log10(beta_min), math.log10(beta_max)
    steps = max(round((high - low) * per_decade), 1) if high > low else 0
    exponents = [low + (high - low) * i / max(steps, 1) for i in range(steps + 1)]
    return tuple(dict.fromkeys(float(f"{10**e:.6g}") for e in exponents))


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run and its evaluation.

    A run is a value: equal runs have one record. A field that equals its default here does not
    enter `slug`, so that a field added later leaves the file names of older records as they are.
    """

    task: str
    method: str
    profile: str
    seed: int
    betas: tuple[float, ...]
    """the β it answers for: one for VIB, the grid for Hyper-VIB (range = first to last)"""
    epochs: int
    snr_db: float = 20.0
    """channel signal-to-noise ratio in dB against a feature of unit power"""
    prices: tuple[float, ...] = ()
    """of several devices: by what each multiplies the run's one β; all by 1 if empty"""
    channel: str = ""
    """the channel by its name in `hvib.channels`; the paper's AWGN if empty"""
    snrs: tuple[float, ...] = ()
    """at which SNR in dB it is evaluated; at `snr_db` alone if empty"""
    mixed_snr: bool = False
    """in training each example meets an SNR of its own, uniform in dB over the range of `snrs`"""
    features: int = 64
    """n, the dimension of z"""
    batch_size: int = 512
    shares: int = 8
    """M of (17): how many β are drawn for a mini-batch, each for its own share of it"""
    learning_rate: float = 2e-3
    """peak of the one-cycle schedule"""
    adam_memory: float = 0.999
    """how much of Adam's running second moment each step keeps"""
    weight_decay: float = 0.0
    """decoupled, on weights only"""
    shift: int = 0
    """training images are moved by up to so many pixels each way, at random"""
    flip: bool = False
    """training images are mirrored left to right with probability ½"""
    erase: int = 0
    """a square of so many pixels a side is blanked in each training image, at random"""
    limit: int = 0
    """train and evaluate on the first so many examples of each split only (0: on all)"""
    draws: int = 8
    """channel draws that an evaluation averages"""
    network: str = ""
    """the architecture by name; the task's own if empty"""
    precision: Precision = "auto"
    """bfloat16 products with float32 master weights where the hardware has them"""

    def __post_init__(self) -> None:
        self._normalise()
        for name in ("task", "method", "profile"):
            value = getattr(self, name)
            plain = value and not value.startswith(".") and not {"/", "\\"} & set(value)
            require(bool(plain), name, value, "give a name that can be a folder's, without a slash")
        require(len(self.betas) > 0, "betas", self.betas, "give at least one β")
        for beta in self.betas:
            require(math.isfinite(beta) and beta > 0, "betas", beta, "give a finite β > 0")
        require(
            list(self.betas) == sorted(set(self.betas)), "betas", self.betas, "list them ascending"
        )
        for name, values in (("snr_db", (self.snr_db,)), ("snrs", self.snrs)):
            for value in values:
                require(abs(value) <= 200, name, value, "give dB between −200 and 200")
        for price in self.prices:
            require(math.isfinite(price) and price > 0, "prices", price, "give finite prices > 0")
        ascending = list(self.snrs) == sorted(set(self.snrs))
        require(ascending, "snrs", self.snrs, "list them ascending")
        mend = "give `snrs`, over whose range the SNR is drawn"
        require(not self.mixed_snr or len(self.snrs) > 1, "mixed_snr", self.mixed_snr, mend)
        require(self.seed < 2**63, "seed", self.seed, "give a number below 2**63")
        for name in ("epochs", "features", "batch_size", "shares", "draws"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "give at least 1")
        finite = math.isfinite(self.weight_decay)
        require(finite, "weight_decay", self.weight_decay, "give a finite number ≥ 0")
        for name in ("seed", "shift", "erase", "limit", "weight_decay"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "give 0 or more")
        require(
            math.isfinite(self.learning_rate) and self.learning_rate > 0,
            "learning_rate",
            self.learning_rate,
            "give a finite rate > 0",
        )
        require(
            0 <= self.adam_memory < 1, "adam_memory", self.adam_memory, "give a share in [0, 1)"
        )
        require_known("precision", self.precision, get_args(Precision))

    def _normalise(self) -> None:
        """Convert numbers of numpy or torch to Python's, so that equal runs are one record."""
        plain: dict[Any, tuple[Callable[[Any], Any], str]] = {
            int: (operator.index, "a whole number"),
            float: (float, "a number"),
        }
        several = (lambda values: tuple(float(value) for value in values)), "several numbers"
        names = {bool: "True or False", str: "a name"}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in names:
                same = isinstance(value, field.type)
                require(same, field.name, value, f"give {names[field.type]}")
            if field.type not in plain and field.name not in _SEVERAL:
                continue
            convert, kind = plain.get(field.type, several)
            # Text is a sequence too, of digits.
            require(not isinstance(value, str), field.name, value, f"give {kind}")
            try:
                object.__setattr__(self, field.name, convert(value))
            except (TypeError, ValueError):
                require(False, field.name, value, f"give {kind}")

    def to_json(self) -> dict[str, Any]:
        """All fields, in JSON's types."""
        told = asdict(self)
        return {**told, **{name: list(told[name]) for name in _SEVERAL}}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Run":
        """The run that `to_json` wrote; fields it lacks take their defaults.

        Raises:
            TypeError: a field is unknown or a required one is missing.
            ValueError: a value is out of range.
        """
        several = {name: tuple(values[name]) for name in _SEVERAL if name in values}
        return Run(**{**values, **several})

    @property
    def slug(self) -> str:
        """The run's file name in the ledger: what a reader looks for, and a digest of it all."""
        told = {
            f.name: self.to_json()[f.name]
            for f in fields(self)
            if f.default is MISSING or getattr(self, f.name) != f.default
        }
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
        span = "..".join(f"{beta:.1e}" for beta in dict.fromkeys((self.betas[0], self.betas[-1])))
        return f"{self.profile}-beta{span}-epochs{self.epochs}-seed{self.seed}-{digest}"
