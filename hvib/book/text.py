"""Numbers as prose and tables have them."""

import numpy as np

from hvib.book.statistics import Interval


def beta_text(beta: float) -> str:
    """A β as prose has it: 3.2 × 10⁻⁴, 10⁻⁶, 0.1."""
    if beta >= 0.01:
        return f"{beta:.2g}"
    mantissa, exponent = f"{beta:.1e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1.0" else f"{mantissa} × {power}"


def above(excess: float) -> str:
    """A relative difference as prose has it: 14% above, 23% below, within 0.5% of."""
    if abs(excess) < 0.005:
        return "within 0.5% of"
    return f"{abs(excess):.0%} {'above' if excess >= 0 else 'below'}"


def with_interval(values: Interval, scale: float = 1, digits: int = 2) -> str:
    """`98.91 ± 0.05`: mean and half the 95% interval."""
    text = f"{scale * float(values.mean):z.{digits}f}".replace("-", "−")  # and no -0
    half = scale * float(values.high - values.mean)
    return text if np.isnan(half) else f"{text} ± {half:.{digits}f}"


def in_words(count: int, of: int | None = None) -> str:
    """A count as a sentence has it: `none`, `three`; `all four` where it is all `of` them."""
    words = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return f"all {words[count]}" if count == of else words[count]


def percent(share: float, digits: int = 0) -> str:
    """`+15%`: a change."""
    return f"{share:+z.{digits}%}".replace("-", "−")
