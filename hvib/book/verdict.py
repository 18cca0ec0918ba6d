"""A verdict as a value: a claim, the test that it is put to, what was measured, how it ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["holds", "holds in part", "does not hold here", "not testable"]


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper, the test it is put to, what was measured and how it ends."""

    key: str
    """by which a page asks for it"""
    number: int | None
    """of the paper's claims; None for a test that the paper does not make"""
    claim: str
    test: str
    measured: str
    outcome: Outcome
    alone: tuple[Outcome, ...] = ()
    """how it ends on each seed's curves alone; empty where seeds do not differ"""
    of_seeds: bool = False
    """its test counts seeds: one alone says nothing"""

    @property
    def agreement(self) -> str:
        """On how many seeds alone it ends as on their mean: `2 of 3`; empty where none can."""
        told = self.alone and not self.of_seeds
        return agreement_of(self.outcome, self.alone) if told else ""


def agreement_of(end: Outcome, alone: Sequence[Outcome]) -> str:
    return f"{alone.count(end)} of {len(alone)}"


def outcome(whole: bool, part: bool = False) -> Outcome:
    """The verdict of a test of the whole claim and of a part of it."""
    return "holds" if whole else "holds in part" if part else "does not hold here"
