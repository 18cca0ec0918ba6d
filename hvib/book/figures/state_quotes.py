"""The numbers that prose quotes of the plane β × SNR, of one task on one channel."""

import numpy as np

from hvib.book.figures.states import db
from hvib.book.state_results import (
    EACH,
    EARLIER,
    ONE_NETWORK,
    ONLY,
    ORDERED_EACH,
    ORDERED_TOLD,
    ORDERED_UNTOLD,
    TOLD,
    TOLD_ONCE,
    TOLD_RECEIVER,
    UNTOLD,
    Plane,
    Planes,
    Who,
    loss,
    loss_text,
    price,
    shared,
    whole_excess,
)
from hvib.book.statistics import Interval, interval
from hvib.book.text import with_interval
from hvib.book.yardstick import yardstick


def state_facts(
    planes: Planes, prefix: str = "", nominal: float = 20.0, beta: float = 1e-2
) -> dict[str, str]:
    """The numbers of the paper's gates, and of the ordered ones where they are on record.

    At the lowest SNR, `low`: the test metric of each kind (`only`, `untold`, `receiver`, `told`,
    `each`, `ordered`), the power that it sends (`…-power`), and its objective at one β
    (`…-objective`). What training over all SNRs gains over the nominal one alone there (`over`) and
    what knowing the SNR does (`knows`), and both at the nominal SNR (`…-nominal`). How far, over
    SNR and β, the objective of one kind is above or below another's (`whole…`). Of one network
    against one for each SNR: `within`, at how many SNRs it is as good; `worst`, what it is behind
    at worst; `price`, its time in runs for one.
    """
    told, each = planes[TOLD], planes[EACH]
    facts = {"seeds": str(len(shared(told, each)[0].seeds)), "low": db(told.snrs[0])}
    names = {"only": ONLY, "untold": UNTOLD, "receiver": TOLD_RECEIVER, "told": TOLD, "each": EACH}
    names |= {"once": TOLD_ONCE, "ordered": ORDERED_TOLD, "ordered-each": ORDERED_EACH}
    for name, who in names.items():
        if who in planes and planes[who].snrs[0] == told.snrs[0]:
            facts |= _at_lowest(planes[who], name, beta)
    pairs = {"over": (UNTOLD, ONLY), "knows": (TOLD, UNTOLD)}
    for name, (ours, theirs) in pairs.items():
        facts[name] = _gain(planes, ours, theirs, told.snrs[0])
        facts[f"{name}-nominal"] = _gain(planes, ours, theirs, nominal)
    wholes = {
        "whole": (TOLD, UNTOLD),
        "whole-receiver": (TOLD_RECEIVER, UNTOLD),
        "whole-device": (TOLD, TOLD_RECEIVER),
        "whole-each": (TOLD, EACH),
        "whole-once": (TOLD_ONCE, EACH),
        "whole-ordered": (ORDERED_TOLD, TOLD),
        "whole-ordered-each": (ORDERED_TOLD, EACH),
        "whole-ordered-untold": (ORDERED_TOLD, ORDERED_UNTOLD),
        **{f"whole-{who.method.removeprefix('hyper-vib-')}": (who, TOLD) for who in EARLIER},
    }
    for name, (ours, theirs) in wholes.items():
        if ours in planes and theirs in planes:
            found = whole_excess(planes[ours], planes[theirs])
            facts[name] = _side(found)
    facts |= _behind(told, each) | {"price-untold": f"{price(planes[UNTOLD], each):.1f}"}
    if ORDERED_TOLD in planes:
        facts |= _behind(planes[ORDERED_TOLD], each, "ordered-")
    if ORDERED_TOLD in planes and ORDERED_EACH in planes:
        facts |= _behind(planes[ORDERED_TOLD], planes[ORDERED_EACH], "ordered-own-")
    return {f"{prefix}{name}": value for name, value in facts.items()}


def _at_lowest(plane: Plane, name: str, beta: float) -> dict[str, str]:
    metric = plane.metric
    k = int(np.abs(np.log(plane.betas / beta)).argmin())
    best = interval(plane.at_selected()[:, 0])
    objective = interval(plane.column("objective")[:, 0, k])
    power = interval(plane.at_selected("tx_power")[:, 0])
    return {
        f"{name}-power": with_interval(power, 1, 1),
        name: with_interval(best, metric.factor, metric.digits),
        f"{name}-objective": with_interval(objective),
    }


def _side(share: Interval) -> str:
    """A relative difference as prose has it: 11.1 ± 0.4% below."""
    size = Interval(abs(share.mean), abs(share.mean) - share.half, abs(share.mean) + share.half)
    return f"{with_interval(size, 100, 1)}% {'below' if share.mean < 0 else 'above'}"


def _gain(planes: Planes, ours: Who, theirs: Who, snr_db: float) -> str:
    """By how much our metric is better at one SNR."""
    by, gained = yardstick(planes[ours].metric), loss(planes[theirs], planes[ours]).at(snr_db)
    if by.relative and gained.mean >= 9:
        return loss_text(gained, by)
    return with_interval(gained, 100, 1) + (" %" if by.relative else " points")


def _behind(ours: Plane, each: Plane, prefix: str = "") -> dict[str, str]:
    by, behind = yardstick(ours.metric), loss(ours, each)
    mean = behind.values.mean
    worst = int(mean.argmax())
    return {
        f"{prefix}within": f"{int((mean <= ONE_NETWORK[by.relative]).sum())} of {len(mean)}",
        f"{prefix}worst": loss_text(behind.values.at(worst), by),
        f"{prefix}worst-snr": db(behind.snrs[worst]),
        f"{prefix}price": f"{price(ours, each):.1f}",
    }
