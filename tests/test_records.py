"""The committed records: that they are sound, and all that the book needs."""

from dataclasses import replace

import numpy as np
import pytest

from hvib import ledger
from hvib.book import several, states
from hvib.book.ablations import choices, other_settings
from hvib.book.plan import SEEDS, page, plan
from hvib.book.search import SEARCHES, course, possible, searched_tasks
from hvib.ledger import Record
from hvib.ranging.bounds import known_shape_bound
from hvib.ranging.simulate import LINKS, simulate
from hvib.run import Run
from hvib.tasks import make_run, ranging


def test_committed_records_cover_the_pages() -> None:
    """The book builds without data: every recorded page has its whole plan on file."""
    for task in ("mnist", "cifar10", "bluetooth", "wifi"):
        missing = [run.slug for run in page(task) if ledger.find(run) is None]
        assert not missing, task


@pytest.mark.parametrize("task", searched_tasks())
def test_committed_records_cover_the_searches(task: str) -> None:
    def on_record(run: Run) -> Record:
        record = ledger.find(run)
        assert record, run.slug
        return record

    for seed in (0, 1, 2):
        run = make_run(task, "vib", seed=seed, epochs=searched_tasks()[task])
        for name in possible(run):
            # Those that infer without β may be missing on the dearest task.
            if task == "cifar10" and SEARCHES[name].if_on_record:
                continue
            course(name, run, on_record)


@pytest.mark.parametrize("task", ["digits", "mnist", "bluetooth"])
def test_committed_records_cover_the_ablations(task: str) -> None:
    for seed in SEEDS["full"]:
        paper = make_run(task, "hyper-vib", seed=seed)
        groups = choices(paper)
        cited = list(groups.pop("hypernetwork").values())
        runs = [run for group in groups.values() for run in group.values()]
        # The cited hypernetworks: all seeds of the digits, three of Bluetooth.
        on_page = task == "digits" or (task == "bluetooth" and seed in SEEDS["full"][:3])
        runs += cited * on_page
        runs += [run for run in plan(task, seeds=(seed,)) if run.method == "vib"]
        runs += [replace(paper, precision="float32")] * (task == "bluetooth")
        assert not [run.slug for run in runs if ledger.find(run) is None]


@pytest.mark.parametrize(("task", "channel"), [("mnist", "awgn"), ("bluetooth", "awgn")])
def test_committed_records_cover_the_channel_states(task: str, channel: str) -> None:
    missing = [run for run in states.study(task, channel) if ledger.find(run) is None]
    # Of the third seed the rivals, and what is told to nobody or trained for one run's epochs.
    dear = (*states.RIVALS, "hyper-vib-ordered", states.BOTH)
    assert not [run.slug for run in missing if run.seed < 2 or run.method not in dear]


@pytest.mark.parametrize(("task", "seeds"), [("mnist-halves", (0, 1)), ("anchors", (0, 1, 2))])
def test_committed_records_cover_several_devices(task: str, seeds: tuple[int, ...]) -> None:
    missing = [run.slug for run in several.study(task, seeds) if ledger.find(run) is None]
    assert not missing


@pytest.mark.parametrize("task", ["mnist", "bluetooth", "wifi"])
def test_committed_records_cover_the_tuned_systems(task: str) -> None:
    runs = [make_run(task, "hyper-vib-tuned", seed=seed) for seed in SEEDS["full"]]
    runs += [replace(run, method="hyper-vib-ordered", precision="float32") for run in runs]
    assert len(ledger.on_record(runs)) == 2 * len(SEEDS["full"])


def test_committed_records_cover_the_settings() -> None:
    runs = [run for found in other_settings().values() for run in found]
    assert not [run.slug for run in runs if ledger.find(run) is None]


def test_committed_records_are_sound() -> None:
    found = ledger.records()  # warnings are errors here
    assert found
    for task in {record.config.task for record in found}:
        assert len({record.data_md5 for record in found if record.config.task == task}) == 1
    assert {record.config.profile for record in found} == {"full"}


def test_no_network_on_record_beats_its_bound() -> None:
    """The bound for one who is told all but the delay: a leak of the target would be below it."""
    for link in LINKS.values():
        scene = simulate(link, 2000, ranging.SEEDS["test"])
        assert scene.paths
        floor = float(np.mean(known_shape_bound(scene.paths, link, 20) ** 2))
        found = [r for r in ledger.records() if r.config.task == link.name]
        assert found
        for record in found:
            assert min(row["metric"] for row in record.rows("test")) > floor, record.config.slug
