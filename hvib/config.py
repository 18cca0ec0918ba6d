"""A run is a value: everything that determines it, in one frozen dataclass.

`Run` is what the ledger files a result under, what the command line builds and what a
notebook varies. `make_run` fills one in from a task, a method and a profile.
"""

import hashlib
import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal, NamedTuple, get_args

import tyro

Profile = Literal["smoke", "quick", "full"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "bfloat16", "float32"]


def require(condition: bool, name: str, value: object, mend: str) -> None:
    """Raise the one kind of error bad input gets: name, value, mend.

    Raises:
        ValueError: `condition` is false.
    """
    if not condition:
        raise ValueError(f"{name} = {value!r}: {mend}")


def require_known(name: str, value: str, known: Iterable[str]) -> None:
    """Raise unless `value` is one of `known`.

    Raises:
        ValueError: it is not; the message lists what is.
    """
    known = sorted(known)
    require(value in known, name, value, f"unknown; choose one of {', '.join(known)}")


def beta_grid(
    beta_min: float = 1e-6, beta_max: float = 1.0, per_decade: int = 2
) -> tuple[float, ...]:
    """The β at which every method is evaluated: evenly spaced in log β, ends included.

    The default is 13 values, every half decade ("0.5 orders of magnitude", section IV-B).

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

    A field equal to its default here does not enter `slug`, so a field added later
    leaves the records made before it in place.
    """

    task: str
    method: str
    profile: str
    seed: int
    betas: Annotated[tuple[float, ...], tyro.conf.arg(aliases=["--beta"])]
    """the β it answers for: one for VIB, the grid for Hyper-VIB (range = first to last)"""
    epochs: int
    snr_db: float = 20.0
    """channel signal-to-noise ratio in dB against a feature of unit power"""
    features: int = 64
    """n, the dimension of z"""
    batch_size: int = 512
    shares: int = 8
    """M of (17): the β drawn for one mini-batch, each for its own share of it"""
    learning_rate: float = 2e-3
    """peak of the one-cycle schedule"""
    adam_memory: float = 0.999
    """share of Adam's running second moment that each step keeps"""
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
        require(abs(self.snr_db) <= 200, "snr_db", self.snr_db, "give dB between −200 and 200")
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
        """Plain numbers of Python's from any others: equal runs are equal in the ledger too."""
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
            if field.type not in plain and field.name != "betas":
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
        return {**asdict(self), "betas": list(self.betas)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Run":
        """The run that `to_json` wrote; fields it lacks take their defaults.

        Raises:
            TypeError: a field is unknown or a required one is missing.
            ValueError: a value is out of range.
        """
        return Run(**{**values, "betas": tuple(values["betas"])})

    @property
    def slug(self) -> str:
        """The run's file name in the ledger: what a person looks for, then a digest of it all."""
        told = {
            f.name: self.to_json()[f.name]
            for f in fields(self)
            if f.default is MISSING or getattr(self, f.name) != f.default
        }
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
        span = "..".join(f"{beta:.1e}" for beta in dict.fromkeys((self.betas[0], self.betas[-1])))
        return f"{self.profile}-beta{span}-epochs{self.epochs}-seed{self.seed}-{digest}"


RANGING = ("bluetooth", "wifi", "bluetooth-any-snr", "wifi-any-snr")
"""The simulated tasks; the last two are measured at 0 to 40 dB rather than at 20."""


class Metric(NamedTuple):
    """What a task is judged by."""

    name: str
    unit: str
    scale: float
    """from the records' number to one in `unit`"""
    digits: int
    """after the point, where it is told"""
    higher_is_better: bool


ACCURACY = Metric("accuracy", "%", 100, 2, higher_is_better=True)
SQUARED_ERROR = Metric("MSE", "ns²", 1, 3, higher_is_better=False)

METRICS = {
    "mnist": ACCURACY,
    "cifar10": ACCURACY,
    "cifar10-wide": ACCURACY,
    "digits": ACCURACY,
    **dict.fromkeys(RANGING, SQUARED_ERROR),
}
"""The metric of each task."""


# A short memory of the second moment: rare large errors of a squared distortion set VIB back by
# a factor of two otherwise.
_RANGING = {"learning_rate": 5e-3, "adam_memory": 0.95}

_CIFAR10 = {
    "batch_size": 256,
    "learning_rate": 7e-3,
    "adam_memory": 0.95,
    "weight_decay": 0.15,
    "shift": 3,
    "flip": True,
}

# Nine times the parameters in three times the epochs learn pictures by heart that vary no more.
_CIFAR10_WIDE = {**_CIFAR10, "batch_size": 512, "weight_decay": 0.3, "erase": 12}

PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "mnist": {
        "smoke": {"epochs": 1, "limit": 2048, "batch_size": 256, "shift": 2, "draws": 1},
        "quick": {"epochs": 3, "shift": 2, "draws": 2},
        "full": {"epochs": 20, "shift": 2, "weight_decay": 0.01},
    },
    "cifar10": {
        "smoke": {"epochs": 1, "limit": 128, "batch_size": 128, "draws": 1},
        "quick": {**_CIFAR10, "epochs": 3, "draws": 1},
        "full": {**_CIFAR10, "epochs": 13, "draws": 4},
    },
    "cifar10-wide": {
        "smoke": {"epochs": 1, "limit": 128, "batch_size": 128, "draws": 1},
        "quick": {**_CIFAR10_WIDE, "epochs": 3, "draws": 1},
        "full": {**_CIFAR10_WIDE, "epochs": 40, "draws": 4},
    },
    **{
        task: {
            "smoke": {"epochs": 1, "limit": 2048, "batch_size": 256, "draws": 1},
            "quick": {**_RANGING, "epochs": 2, "draws": 2},
            "full": {**_RANGING, "epochs": 10, "draws": 4},
        }
        for task in RANGING
    },
    "digits": {
        "smoke": {"epochs": 2, "batch_size": 128, "draws": 1},
        "quick": {"epochs": 100, "batch_size": 128, "draws": 4},
        "full": {"epochs": 200, "batch_size": 128},
    },
}
"""Settings by task and profile: `smoke` proves that it runs, `quick` shows the shape of the
result in minutes, `full` is the recorded experiment. A task of yours joins with its own entry."""


def make_run(
    task: str,
    method: str,
    profile: str = "full",
    *,
    seed: int = 0,
    betas: Iterable[float] | None = None,
    **settings: Any,
) -> Run:
    """The run of a profile, with any field of `Run` overridden by keyword.

    Args:
        betas: the β it answers for; the whole default grid if not given.

    Raises:
        ValueError: the task or profile is unknown, or a setting is out of range.
        TypeError: a setting is no field of `Run`.
    """
    require_known("task", task, PROFILES)
    require_known("profile", profile, PROFILES[task])
    base = Run(
        task=task,
        method=method,
        profile=profile,
        seed=seed,
        betas=beta_grid() if betas is None else betas,  # type: ignore[arg-type]  # Run converts
        **PROFILES[task][profile],
    )
    return replace(base, **settings)


SEEDS = {"smoke": (0,), "quick": (0,), "full": (0, 1, 2, 3, 4)}
"""The seeds of each profile."""

HYPER = ("hyper-vib", "hyper-vib-log", "hyper-vib-free", "hyper-vib-ordered")
"""The methods that one training run answers every β with: the paper's first, and last the one
that is closest to a best response. Those between, the steps from one to the other, are in the plan
of the ranging tasks, where they help most; in classification they are a study."""


def plan(
    task: str,
    profile: str = "full",
    *,
    seeds: Iterable[int] | None = None,
    betas: Iterable[float] | None = None,
    **settings: Any,
) -> list[Run]:
    """All runs of a task's page.

    For each seed: VIB at each β, and the first and the last of `HYPER` (on the ranging tasks all)
    over the same range at one and at two times the epochs of a VIB run. On MNIST and the digits for
    the first seed also the batched grid, which batch norms do not allow.

    Args:
        seeds: the profile's own if not given.
        betas: the grid; its ends are the range Hyper-VIB trains on.

    Raises:
        ValueError, TypeError: as `make_run`.
    """
    require_known("profile", profile, SEEDS)
    grid = tuple(beta_grid() if betas is None else betas)
    seeds = list(SEEDS[profile] if seeds is None else seeds)

    def one(method: str, seed: int, betas: tuple[float, ...]) -> Run:
        return make_run(task, method, profile, seed=seed, betas=betas, **settings)

    runs = []
    for seed in seeds:
        runs += [one("vib", seed, (beta,)) for beta in grid]
        for method in HYPER if task in RANGING else (HYPER[0], HYPER[-1]):
            hyper = one(method, seed, grid)
            runs += [hyper, replace(hyper, epochs=2 * hyper.epochs)]
    batched = seeds[:1] if task in ("mnist", "digits") else []
    return runs + [one("vib-batched", seed, grid) for seed in batched]


def studies(
    task: str,
    profile: str = "full",
    *,
    seeds: Iterable[int] | None = None,
    betas: Iterable[float] | None = None,
    **settings: Any,
) -> dict[str, list[Run]]:
    """Runs of a task's page beside its plan, by what they study; none for tasks without a page.

    Classification, the digits that stand in for it too: `steps`, the methods between the first and
    the last of `HYPER`; `twice`, VIB at every third β with twice the epochs.
    CIFAR-10: `norms`, where the gates are and what the norms are, with VIB at one β of the plateau.
    MNIST and the digits: the last of `HYPER` at a VIB run's epochs over `all` of the range, the
    `two decades` and the `one decade` at its upper end, and over the latter for no more than
    `its share` of the epochs, the first with the number format that the others have on record.
    Ranging: `a sixth`, the last of `HYPER` at 1.3 times the epochs, which costs
    a sixth of the grid; `parts`, the step to it from free gates in its two halves; `limited
    power`, VIB at every third β and the paper's Hyper-VIB; `epochs`, VIB at one β of the plateau,
    with half to four times the epochs, and eight times for the first seed; `longest`, VIB and the
    last of `HYPER` with four times the epochs; `convolutions`, the task's convolutional network,
    at every fourth β and for the first seed; `any SNR`, one run on measurements of 0 to 40 dB
    (both with free gates).
    `twice`, `norms`, `epochs` and `longest` are of the first three seeds.

    Raises:
        ValueError, TypeError: as `plan`.
    """
    runs = plan(task, profile, seeds=seeds, betas=betas, **settings)
    vib = [run for run in runs if run.method == "vib"]
    grid = sorted({run.betas for run in vib})
    plateau = [run for run in vib if run.betas == grid[len(grid) // 3]]
    third = [run for run in vib if run.betas in grid[::3]]

    def once(method: str) -> list[Run]:
        return [run for run in runs if run.method == method and run.epochs == vib[0].epochs]

    first = list(dict.fromkeys(run.seed for run in vib))[:3]

    def three(runs: list[Run]) -> list[Run]:
        """Those of the first three seeds."""
        return [run for run in runs if run.seed in first]

    classification = {
        "steps": [replace(run, method=m) for m in HYPER[1:-1] for run in once(HYPER[0])],
        "twice": [replace(run, epochs=2 * run.epochs) for run in three(third)],
    }
    if task == "cifar10":
        hyper, plateau = three(once(HYPER[0])), three(plateau)
        return classification | {
            "norms": [
                *plateau,
                *hyper,
                *(replace(run, method="hyper-vib-before") for run in hyper),
                *(
                    replace(run, network=f"cifar10-{norm}")
                    for norm in ("group-norm", "no-norm")
                    for run in plateau + hyper
                ),
            ],
        }
    last = once(HYPER[-1])
    if task in ("mnist", "digits"):
        two, decade = ([replace(r, betas=r.betas[-count:]) for r in last] for count in (5, 3))
        share = 2 / max(len(last[0].betas) - 1, 2)
        brief = [replace(run, epochs=max(round(share * run.epochs), 1)) for run in decade]
        return classification | {
            "all, float32 products": [replace(run, precision="float32") for run in last],
            "two decades": two,
            "one decade": decade,
            "one decade, its share": brief,
        }
    if task not in ("bluetooth", "wifi"):
        return {}
    free = replace(last[0], method="hyper-vib-free")
    few = [run for run in vib if run.betas in grid[::4] and run.seed == vib[0].seed]
    parts = ("hyper-vib-free", "hyper-vib-free-opened", "hyper-vib-ordered-unopened", HYPER[-1])
    return {
        "a sixth": [replace(run, epochs=math.ceil(1.3 * run.epochs)) for run in last],
        "parts": [
            replace(run, method=method, precision="float32") for method in parts for run in last
        ],
        "limited power": [
            replace(run, network=f"{task}-power-limited") for run in third + once(HYPER[0])
        ],
        "epochs": [
            replace(run, epochs=max(int(multiple * run.epochs), 1))
            for multiple in (0.5, 1, 2, 4, 8)
            for run in (three(plateau) if multiple < 8 else plateau[:1])
        ],
        "longest": [replace(run, epochs=4 * run.epochs) for run in three(vib + last)],
        "convolutions": [replace(run, network=f"{task}-convolutions") for run in (*few, free)],
        "any SNR": [replace(free, task=f"{task}-any-snr")],
    }


def page(task: str, profile: str = "full", **settings: Any) -> list[Run]:
    """All runs of a task's page, its `plan` and its `studies`, each once.

    Args:
        settings: as of `plan`.

    Raises:
        ValueError, TypeError: as `plan`.
    """
    parts = plan(task, profile, **settings), *studies(task, profile, **settings).values()
    return list(dict.fromkeys(run for runs in parts for run in runs))


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What a reader can vary in a notebook: its papermill parameters."""

    dataset: str
    profile: str
    seeds: tuple[int, ...]
    """empty: the profile's own"""
    snr_db: float
    beta_min: float
    beta_max: float
    device: str
    fresh: bool
    """train even where there is a record"""

    @property
    def runs(self) -> list[Run]:
        """The runs of the page, as `plan` gives them."""
        return plan(self.dataset, self.profile, **self._settings)

    @property
    def studies(self) -> dict[str, list[Run]]:
        """The page's runs beside them, as `studies` gives them."""
        return studies(self.dataset, self.profile, **self._settings)

    @property
    def live(self) -> str:
        """The profile of what the page trains live: `quick`, unless its own is `smoke`."""
        return "smoke" if self.profile == "smoke" else "quick"

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "seeds": self.seeds or None,
            "betas": beta_grid(self.beta_min, self.beta_max),
            "snr_db": self.snr_db,
        }


def parameters(namespace: Mapping[str, Any], tasks: Iterable[str] = ()) -> Parameters:
    """Read a notebook's parameters from `globals()`, right after the parameters cell.

    papermill only warns of a name that the notebook does not have; here it is an error,
    as any other plain value in the namespace is. `seeds` may be a list, or text as `0,1,2`.

    Args:
        tasks: what `dataset` may be on this page; any task if none is named.

    Raises:
        ValueError: a name is unknown or missing, or a value is out of range.
    """
    known = [f.name for f in fields(Parameters)]
    plain: dict[str, Any] = {
        name: value
        for name, value in namespace.items()
        if isinstance(value, str | int | float | bool | list | tuple | None)
        and not name.startswith("_")
        and name not in ("In", "Out")
    }
    for name, value in plain.items():
        require(name in known, name, value, f"unknown parameter; choose among {', '.join(known)}")
    for name in known:
        require(name in plain, name, None, "missing; set it in the parameters cell")
    seeds = plain["seeds"]
    if isinstance(seeds, str):
        seeds = seeds.strip("[]").replace(",", " ").split()
    try:
        seeds = tuple(int(seed) for seed in ([seeds] if isinstance(seeds, int) else seeds))
    except (TypeError, ValueError):
        raise ValueError(f"seeds = {seeds!r}: give whole numbers, as 0,1,2") from None
    require(len(set(seeds)) == len(seeds), "seeds", list(seeds), "name each once")
    require(min(seeds, default=0) >= 0, "seeds", list(seeds), "give 0 or more")
    if tasks:
        require_known("dataset", plain["dataset"], tasks)
    for name in ("snr_db", "beta_min", "beta_max"):
        value = plain[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        require(number, name, value, "give a number (in a YAML file write 1.0e-4, not 1e-4)")
    require(isinstance(plain["fresh"], bool), "fresh", plain["fresh"], "give True or False")
    require_known("device", plain["device"], get_args(Device))
    found = Parameters(**{**plain, "seeds": seeds})
    _ = found.runs  # checks the ranges before anything is trained
    return found
