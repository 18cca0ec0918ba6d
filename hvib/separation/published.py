"""Results of others that figures draw beside our own, in one place."""

from typing import NamedTuple


class Points(NamedTuple):
    """Published points over the SNR."""

    label: str
    snr_db: tuple[float, ...]
    accuracy: tuple[float, ...]
    """in [0, 1]"""
    uses: tuple[int, int]
    """channel uses at the first and at the last SNR"""


VL_VFE_MNIST = Points(
    "VL-VFE, released models",
    (10, 12.5, 15, 17.5, 20, 22.5, 25),
    (0.964, 0.972, 0.976, 0.977, 0.978, 0.977, 0.976),
    (33, 32),
)
"""VL-VFE on MNIST's 10,000 test images: accuracy over 20 draws of the noise for each image.

The models are those that the authors released (github.com/shaojiawei07/VL-VFE, `Examples`), run
again here; the numbers are not the article's. Its SNR is that of the peak: features are limited to
[−1, 1], and the noise has variance 10^(−SNR/10). Their mean power is below 1, so that it spends
less power than a code at the capacity of the same number of dB.

Source: Shao, Mao and Zhang, Learning task-oriented communication for edge inference: an information
bottleneck approach, IEEE Journal on Selected Areas in Communications 40(1), 2022.
"""
