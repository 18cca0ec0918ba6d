"""Numbers as prose has them."""

import numpy as np
import pytest

from hvib.book import text
from hvib.book.statistics import Interval
from hvib.book.text import above, beta_text, in_words, percent


@pytest.mark.parametrize(
    ("beta", "text"),
    [(1.0, "1"), (0.0316228, "0.032"), (1e-6, "10⁻⁶"), (3.16228e-4, "3.2 × 10⁻⁴")],
)
def test_betas_read_as_prose(beta: float, text: str) -> None:
    assert beta_text(beta) == text


def test_relative_differences_read_as_prose() -> None:
    assert above(0.139) == "14% above"
    assert above(-0.23) == "23% below"
    assert above(0.004) == above(-0.004) == "within 0.5% of"


def test_an_interval_around_zero_has_no_sign() -> None:
    ends = np.array([-0.001, -0.201, 0.199]), np.array([-0.011, np.nan, np.nan])
    told = [text.with_interval(Interval(*values), 100, 0) for values in ends]
    assert told == ["0 ± 20", "−1"]


def test_counts_read_as_prose() -> None:
    assert [in_words(count) for count in (0, 3, 10)] == ["none", "three", "ten"]
    assert [in_words(count, of=4) for count in (0, 3, 4)] == ["none", "three", "all four"]


def test_changes_have_their_sign() -> None:
    assert [percent(share) for share in (0.151, -0.05, -0.001)] == ["+15%", "−5%", "+0%"]
    assert percent(-0.0123, 1) == "−1.2%"
