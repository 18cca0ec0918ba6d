"""The file of a training, from which `hvib.fit` goes on after a kill as if nothing had happened.

One file of safetensors holds all that a training step changes: weights and buffers, AdamW's
moments, the running objective, averages and best weights, and the state of each generator. Its
JSON says how far the training is, and which it is: its run, its data, its model and its machine.
"""

import glob
import hashlib
import itertools
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hvib.check import require
from hvib.data import Data
from hvib.methods.tending import Tending
from hvib.methods.training import Training
from hvib.run import Run
from hvib.system import Stacked, System, one_of

EVERY = 5.0
"""Seconds between two filings at least: short epochs would spend their time on writing."""

SUFFIX = ".safetensors"

PICKLED = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
"""Names that other programs give their checkpoints."""


def file_of(resume: str | PathLike[str], run: Run) -> Path:
    """The file of a run's training: `resume` itself, or in that folder one named after the run.

    Raises:
        ValueError: `resume` is no path, or the path of another kind of file.
    """
    mend = f"give a folder, or a file that ends in {SUFFIX}"
    require(bool(resume) and isinstance(resume, str | PathLike), "resume", resume, mend)
    path = Path(resume).expanduser()
    if path.suffix == SUFFIX and not path.is_dir():
        return path
    require(not path.is_file() and path.suffix not in PICKLED, "resume", str(resume), mend)
    return path / f"{run.task}-{run.method}-{run.slug}{SUFFIX}"


def part_of(path: Path, index: int) -> Path:
    """The file of one of the systems that a run trains one after another.

    They lie in a folder that has the name of the run's file without its suffix.
    """
    return path.with_suffix("") / f"{index}{SUFFIX}"


class Checkpoint:
    """A training as it is on file: read at its start, filed at the end of its epochs.

    Args:
        path: the file, which need not exist.
        model: what is trained.
        run, data: what it is trained by and on.
        device, products: where training takes place, and the format of its matrix products.
        clock: tells the seconds that training takes.

    Raises:
        ValueError: the file is damaged, or is of another training.
    """

    def __init__(
        self,
        path: Path,
        model: System | Stacked,
        run: Run,
        data: Data,
        device: torch.device,
        products: torch.dtype,
        clock: Callable[[], float],
    ) -> None:
        self.path, self._model, self._device, self._clock = path, model, device, clock
        self._identity: dict[str, Any] = {
            "run": run.to_json(),
            "data": data.md5,
            "device": device.type,
            "products": str(products).removeprefix("torch."),
            "model": {name: _kind_of(value) for name, value in _state(model).items()},
            # What has no weights: activations, the share that dropout drops, the distortion. The
            # address of a function is another in each process.
            "modules": re.sub(r" at 0x[\da-fA-F]+", "", repr(one_of(model))).splitlines(),
        }
        self.means: list[Tensor] = []
        """the mean objective of each step that is done; whoever loops over the steps appends it"""
        self.seconds = 0.0
        """what training took until it was last filed, over all calls"""
        self._start = _digest(_state(model))
        self._tensors: dict[str, Tensor] = {}
        if path.exists():
            self._read()
        self._before, self._began, self._filed = self.seconds, clock(), time.monotonic()

    def _read(self) -> None:
        """Take over what is on file, if it is of this training."""
        self._tensors, self._told = _stored(self.path)
        different = _differences(self._told["identity"], self._identity)
        require(
            not different,
            "resume",
            str(self.path),
            f"the training on file is another: {'; '.join(different)}. Give what it was begun "
            "with, or another file",
        )
        if self._told["done"]:
            self._warn_of_other_start()
        self.seconds, self._start = self._told["seconds"], self._told["start"]
        if "means" in self._tensors:
            self.means = list(self._tensors["means"].to(self._device))

    def _warn_of_other_start(self) -> None:
        """Warn of a model that is neither the one that training on file began with nor its end.

        It would not be trained, as in a loop over models that all have one file.
        """
        prefix = "model/"
        trained = {
            n.removeprefix(prefix): v for n, v in self._tensors.items() if n.startswith(prefix)
        }
        if self._start not in (self._told["start"], _digest(trained)):
            message = (
                f"resume = {str(self.path)!r}: the training on file is done, and it began with "
                "other weights than the model's. The model gets the trained weights on file; to "
                "train it from its own, give it a file of its own"
            )
            warnings.warn(message, stacklevel=5)

    def begin(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        training: Training,
        tending: Tending,
    ) -> int:
        """Put what is on file into a training that is about to begin; without a file, make one.

        The file is there before the first step, so that a folder that cannot be written costs no
        training.

        Returns:
            How many steps are done.

        Raises:
            OSError: the file cannot be written.
        """
        self._optimizer, self._schedule, self._training = optimizer, schedule, training
        self._tending = tending
        _clear_partials(self.path)
        if self._tensors:
            self._restore(self._tensors)
            self._tensors = {}  # as large as the training, and used no more
        else:
            self._file(done=False)
        return len(self.means)

    def end_epoch(self, *, last: bool) -> None:
        """File the training, unless it was filed `EVERY` seconds ago or less and goes on.

        Raises:
            OSError: the file cannot be written.
        """
        if last or time.monotonic() - self._filed >= EVERY:
            self._file(done=last)
            self._filed = time.monotonic()

    def _file(self, *, done: bool) -> None:
        self.seconds = self._before + self._clock() - self._began
        training, generators = self._training, {"training": self._training.generator.get_state()}
        # Layers such as dropout draw from PyTorch's own generators.
        generators["torch"] = torch.get_rng_state()
        if self._device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(self._device)
        tensors = {f"model/{name}": value for name, value in _state(self._model).items()}
        tensors |= {f"generator/{name}": value for name, value in generators.items()}
        for name, parameter in self._model.named_parameters():
            for kind, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"adam/{kind}/{name}"] = value
        tensors |= {f"tended/{name}": value for name, value in self._tending.tensors().items()}
        if self.means:
            tensors["means"] = torch.stack(self.means)
        if isinstance(training.running.sum, Tensor):
            tensors["running"] = training.running.sum
        told = {
            "identity": self._identity,
            "start": self._start,
            "steps": len(self.means),
            "done": done,
            "seconds": self.seconds,
            "running_weight": training.running.weight,
            "tended": self._tending.told(),
            "schedule": self._schedule.state_dict(),
        }
        _file(self.path, tensors, told)

    @torch.no_grad()
    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in _state(self._model).items():
            value.copy_(tensors[f"model/{name}"])
        for name, parameter in self._model.named_parameters():
            kinds = [n.split("/")[1] for n in tensors if n.split("/", 2)[::2] == ["adam", name]]
            for kind in kinds:
                saved = tensors[f"adam/{kind}/{name}"]
                # The fused kernel wants the moments in the parameter's own memory layout.
                own = saved if kind == "step" else torch.empty_like(parameter, dtype=saved.dtype)
                self._optimizer.state[parameter][kind] = own.copy_(saved).to(self._device)
        self._schedule.load_state_dict(self._told["schedule"])
        rates = self._schedule.get_last_lr()
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._training.step = len(self.means)
        if "tended" in self._told:  # a file of an older version has no such methods
            held = {
                n.removeprefix("tended/"): v for n, v in tensors.items() if n.startswith("tended/")
            }
            self._tending.restore(held, self._told["tended"])
        running = self._training.running
        running.weight = self._told["running_weight"]
        if "running" in tensors:
            running.sum = tensors["running"].to(self._device)
        self._training.generator.set_state(tensors["generator/training"])
        torch.set_rng_state(tensors["generator/torch"])
        if "generator/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["generator/cuda"], self._device)


def _state(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers, those that its state dictionary leaves out among them."""
    return {
        **dict(model.named_parameters()),
        **dict(model.named_buffers()),
    }


def _kind_of(value: Tensor) -> str:
    """Shape and type of a parameter or buffer, and whether it trains."""
    return f"{tuple(value.shape)} {value.dtype}{'' if value.requires_grad else ', fixed'}"


def _digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _file(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Write a file whole or not at all."""
    from safetensors.torch import save  # `import hvib` does without

    form, text = torch.contiguous_format, json.dumps(told)
    copies = {
        name: value.detach().cpu().clone(memory_format=form) for name, value in tensors.items()
    }
    written = save(copies, {"training": text, "digest": _digest(copies, text)})
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as opened:
            opened.write(written)
            opened.flush()
            os.fsync(opened.fileno())  # else a machine that fails could leave the name without this
        partial.replace(path)
    except OSError as error:
        raise OSError(
            f"resume = {str(path)!r}: not filed ({error.strerror or error}); what was filed before "
            "stays: make room, or give a folder that can be written, and the same call goes on"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _clear_partials(path: Path) -> None:
    """Remove what processes that were killed while they wrote the file left of it."""
    for partial in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > 60:  # else a living one may write it
                partial.unlink()


def _stored(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, and its JSON.

    Raises:
        ValueError: it cannot be read, is damaged, or is no file of a training.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            names = opened.keys()
            # Copied, because they may be views of the file, which the next filing replaces.
            tensors = {name: opened.get_tensor(name).clone() for name in names}
            carried = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        mend = f"damaged or not readable ({error}); delete it, and training begins anew"
        raise ValueError(f"resume = {str(path)!r}: {mend}") from error
    mend = "it holds tensors, but not those of a training; give another file"
    require({"training", "digest"} <= carried.keys(), "resume", str(path), mend)
    mend = "damaged (it does not hold what its digest is of); delete it, and training begins anew"
    same = _digest(tensors, carried["training"]) == carried["digest"]
    require(same, "resume", str(path), mend)
    return tensors, json.loads(carried["training"])


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What two trainings differ in, in words."""
    # A file of an older version lacks the fields that `Run` got later.
    old = {field.name: field.default for field in fields(Run)} | there["run"]
    pairs = {name: (old[name], value) for name, value in here["run"].items()}
    pairs |= {name: (there[name], here[name]) for name in ("device", "products")}
    told = [f"{n} = {a!r} on file and {b!r} here" for n, (a, b) in pairs.items() if a != b]
    if there["data"] != here["data"]:
        told.append("the data have other values")
    models = there["model"], here["model"]
    names = [n for n in {**models[0], **models[1]} if models[0].get(n) != models[1].get(n)]
    if names:
        a, b = (model.get(names[0], "absent") for model in models)
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        told.append(f"the model's {names[0]} is {a} on file and {b} here{more}")
    for a, b in itertools.zip_longest(there["modules"], here["modules"], fillvalue="absent"):
        if a != b and not names:
            told.append(f"the model has {a.strip()!r} on file and {b.strip()!r} here")
            break
    return told
