"""Choosing at run time: a β for each request from its SNR and its budget of bits, and the answers.

A surface measured on validation data says what each β costs and gives at each SNR::

    surface = Surface.of_record(record)
    found = choose(surface, snr_db, bits=budgets)
    answers = infer(system, x, found.beta, snr_db, generator)
"""

from hvib.serving.answers import Answers, Folded, Statistics, infer
from hvib.serving.choice import Choice, choose, choose_blind
from hvib.serving.surface import Surface

__all__ = [
    "Answers",
    "Choice",
    "Folded",
    "Statistics",
    "Surface",
    "choose",
    "choose_blind",
    "infer",
]
