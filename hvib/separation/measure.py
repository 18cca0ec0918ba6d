"""What the separate designs achieve on a task, measured and on record: `results/separation/`.

Where the task is one class of ten, the coder to beat is the device that classifies by itself and
sends the class: log₂ 10 bits, a twentieth of a bit for each of 64 channel uses. It costs the device
the last layers too, and serves no other task. Images serve any.

All classifiers are trained here: those behind a coder on images that have been coded as theirs
will be. Call `file_record(measure("mnist"))` to measure anew.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hvib import ledger
from hvib.check import require, require_known
from hvib.data import Data, Split
from hvib.separation.budget import Coded, Ladder, Step, budgets, ladder
from hvib.separation.classifiers import (
    adapted,
    built,
    convolutional,
    fit_classifier,
    logits_of,
    small_convolutional,
    task_mlp,
)
from hvib.separation.coders import Coder, Setting, lossless
from hvib.separation.features import LogitCoder, class_answers
from hvib.tasks import TASKS, load, make_run
from hvib.train import torch_device

CLASS, CLASS_MLP = "class", "class, task's MLP"
"""the coder of the class, from a convolutional classifier and from the widths of the task's MLP"""

LOGITS, LOSSLESS = "logits", "lossless"

_PIXELS = ((28, 20, 14, 10, 7, 5), (28, 14, 10, 7, 5))
_PLANS = {
    "mnist": {
        "settings": (
            *(Setting("pixels", size, 2) for size in _PIXELS[0]),
            Setting("pixels", 14, 3),
            *(Setting("pixels", size, 4) for size in _PIXELS[1]),
            Setting("pixels", 7, 8),
            # JPEG codes blocks of 8 × 8, WebP of 16 × 16: parts of a block would be wasted.
            *(Setting("JPEG", size, quality) for size in (28, 24) for quality in (1, 5)),
            *(Setting("JPEG", size, q) for size in (16, 12, 8) for q in (1, 5, 10, 20)),
            *(Setting("WebP", size, 0) for size in (28, 16)),
        ),
        "shift": 2,
        "flip": False,
    }
}
"""the tasks that are measured: the settings, and how training images are varied"""

_EPOCHS = {"class": 6, "mlp": 20, "mixed": 6}

Coding = dict[str, dict[str, list[Coded]]]
"""for each coder and split its settings"""


@dataclass(frozen=True)
class _Setup:
    data: Data
    seeds: Sequence[int]
    plan: Mapping[str, Any]
    epochs: Mapping[str, int]
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.train.x.shape[1:])

    @property
    def order(self) -> np.ndarray:
        """The classes, the most frequent in training first."""
        counts = np.bincount(self.data.train.y.numpy(), minlength=self.classes)
        return np.argsort(-counts, kind="stable")

    @property
    def judged(self) -> dict[str, Split]:
        """The splits that a record tells of."""
        return {"validation": self.data.validation, "test": self.data.test}

    def classifier(self, build: Callable[..., nn.Module], epochs: int, seed: int) -> nn.Module:
        """One trained on images as they are."""
        model, plan = built(build, self.shape, self.classes, seed), self.plan
        images = [self.data.train] * epochs
        how = {"shift": plan["shift"], "flip": plan["flip"]}
        return fit_classifier(model, images, rate=3e-3, seed=seed, **how)


def _nothing(setup: _Setup, split: Split) -> Coded:
    """The answer without a bit."""
    right = split.y.numpy() == setup.order[0]
    return Coded("nothing", np.zeros(len(split)), right)


def _of_device(setup: _Setup, seed: int) -> Coding:
    """The coders behind a classifier in the device, and lossless images before the same one."""
    model = setup.classifier(convolutional, setup.epochs["class"], seed)
    mlp = setup.classifier(task_mlp, setup.epochs["mlp"], seed)
    train = logits_of(model, setup.data.train.x).double().numpy()
    settings = [(k, step) for k in (1, 2, 3, 5, 9) for step in (2.0, 1.0, 0.5, 0.25)]
    coders = {f"{k} components, step {s:g}": LogitCoder(k, s, train) for k, s in settings}
    found: Coding = {name: {} for name in (CLASS, CLASS_MLP, LOGITS, LOSSLESS)}
    for name, split in setup.judged.items():
        y, logits = split.y.numpy(), logits_of(model, split.x).double().numpy()
        plain, nothing = logits.argmax(1), _nothing(setup, split)
        answers = {CLASS: plain, CLASS_MLP: logits_of(mlp, split.x).argmax(1).numpy()}
        for coder, answer in answers.items():
            found[coder][name] = [Coded(*one) for one in class_answers(answer, y, setup.order)]
        sent = {setting: coder(logits) for setting, coder in coders.items()}
        found[LOGITS][name] = [nothing, *(Coded(s, b, a == y) for s, (b, a) in sent.items())]
        ways = lossless(setup.data.train.x, split.x)
        found[LOSSLESS][name] = [nothing, *(Coded(w, b, plain == y) for w, b in ways.items())]
    return found


def _mixed(setup: _Setup, coders: Sequence[Coder]) -> list[Split]:
    """The training images of some epochs, each image coded by a setting that is drawn for it."""
    train, generator = setup.data.train, torch.Generator().manual_seed(0)
    epochs = []
    for _ in range(setup.epochs["mixed"]):
        drawn = torch.randint(len(coders), (len(train),), generator=generator)
        x = torch.empty_like(train.x)
        for k, coder in enumerate(coders):
            x[drawn == k] = coder(train.x[drawn == k])[1]
        epochs.append(Split(x, train.y))
    return epochs


def _behind_coders(setup: _Setup) -> dict[int, Coding]:
    """The coders of images, each seed's classifier adapted to every setting.

    A classifier first sees images of all settings, then for one epoch those of one alone.
    """
    coders = [Coder(setting, setup.data.train.x) for setting in setup.plan["settings"]]
    mixed = _mixed(setup, coders)
    how = {"shift": setup.plan["shift"], "flip": setup.plan["flip"], "rate": 3e-3}
    first = {
        seed: fit_classifier(
            built(small_convolutional, setup.shape, setup.classes, seed), mixed, seed=seed, **how
        )
        for seed in setup.seeds
    }
    names = dict.fromkeys(coder.setting.coder for coder in coders)
    splits = setup.judged
    found: dict[int, Coding] = {
        seed: {c: {s: [_nothing(setup, splits[s])] for s in splits} for c in names}
        for seed in setup.seeds
    }
    for coder in coders:
        train = Split(coder(setup.data.train.x)[1], setup.data.train.y)
        judged = {name: coder(split.x) for name, split in splits.items()}
        for seed, model in first.items():
            own = adapted(model, train, **{**how, "rate": 2e-3}, seed=seed)
            for name, (bits, images) in judged.items():
                right = (logits_of(own, images).argmax(1) == splits[name].y).numpy()
                one = Coded(coder.setting.name, bits, right)
                found[seed][coder.setting.coder][name].append(one)
    return found


def _rows(seed: int, coding: Coding) -> Iterator[dict[str, Any]]:
    for coder, splits in coding.items():
        for split, settings in splits.items():
            for one in settings:
                yield {
                    "coder": coder,
                    "setting": one.setting,
                    "split": split,
                    "bits_mean": round(float(one.bits.mean()), 3),
                    "bits_max": round(float(one.bits.max()), 3),
                    "accuracy": round(float(one.right.mean()), 6),
                    "seed": seed,
                }


def measure(
    task: str = "mnist",
    seeds: Sequence[int] = (0, 1, 2),
    limit: int = 0,
    epochs: Mapping[str, int] = _EPOCHS,
) -> dict[str, Any]:
    """Train, code and answer: what `file_record` files.

    Args:
        task: of images; it has a plan here.
        seeds: of the classifiers; the coders are the same for all.
        limit: images of each split, the first ones; all for 0.
        epochs: of `class`, the convolutional classifier in the device, `mlp`, that of the task's
            widths, and `mixed`, those behind a coder before they are adapted.

    Raises:
        ValueError: the task has no plan, or there is no seed.
        MissingData: its files are not on disk.
    """
    require_known("task", task, _PLANS)
    require(len(seeds) > 0, "seeds", seeds, "give at least one seed")
    began, data = time.perf_counter(), load(task)
    classes = len(TASKS.find(task).classes)
    setup = _Setup(data.limited(limit), tuple(seeds), _PLANS[task], epochs, classes)
    codings = _behind_coders(setup)
    rows, steps = [], []
    for seed in setup.seeds:
        coding = {**_of_device(setup, seed), **codings[seed]}
        rows += list(_rows(seed, coding))
        for coder, splits in coding.items():
            found = ladder(splits["validation"], splits["test"], budgets(classes))
            steps += [{"coder": coder, "seed": seed, **_rounded(step)} for step in found]
    return {
        "config": {"task": task, "seeds": list(seeds), "limit": limit, "epochs": dict(epochs)},
        "rows": rows,
        "steps": steps,
        "seconds": round(time.perf_counter() - began, 1),
        "environment": ledger.environment(make_run(task, "vib", betas=(1e-3,)), torch_device()),
        "data_md5": data.md5,
    }


def _rounded(step: Step) -> dict[str, Any]:
    values = step._asdict()
    numbers = {name: round(values[name], 9 if name == "bits" else 6) for name in _NUMBERS}
    return {**values, **numbers}


_NUMBERS = ("bits", "validation", "test")


def path_of(task: str) -> Path:
    """Where the record of a task lies, or will lie."""
    return ledger.root() / "separation" / f"{task}.json"


def file_record(values: Mapping[str, Any]) -> Path:
    """File what `measure` gave, with its digest."""
    path = path_of(values["config"]["task"])
    ledger.write_json(path, values)
    return path


@dataclass(frozen=True)
class Separation:
    """What is on record of a task."""

    rows: list[dict[str, Any]]
    """one for each coder, setting, split and seed: `bits_mean`, `bits_max`, `accuracy`"""
    ladders: dict[str, list[Ladder]]
    """for each coder the steps over budgets, seed by seed"""
    values: dict[str, Any]
    """the whole record"""


def separation_of(values: Mapping[str, Any]) -> Separation:
    """What a record's values say."""
    ladders = {}
    for coder in dict.fromkeys(step["coder"] for step in values["steps"]):
        seeds: dict[int, list[Step]] = {}
        for step in values["steps"]:
            if step["coder"] == coder:
                seeds.setdefault(step["seed"], []).append(
                    Step(**{name: step[name] for name in Step._fields})
                )
        ladders[coder] = [Ladder.of(steps) for steps in seeds.values()]
    return Separation(list(values["rows"]), ladders, dict(values))


def recorded(task: str = "mnist") -> Separation:
    """What is on record of a task.

    Raises:
        FileNotFoundError: there is no record.
        ValueError: it is damaged.
    """
    path = path_of(task)
    if not path.exists():
        raise FileNotFoundError(f"{path}: measure it first, by hvib.separation.measure")
    return separation_of(ledger.read_json(path))
