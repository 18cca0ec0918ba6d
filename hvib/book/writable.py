"""Where matplotlib writes its list of fonts, settled before a notebook's kernel starts.

pytest loads this module as a plugin and Sphinx as an extension. A note of matplotlib on standard
error, that it takes a temporary folder or lists the fonts, would fail a notebook's first cell and
the strict build.
"""

import logging
from typing import Any


def prepare() -> None:
    """Have matplotlib find its folders and list the fonts, without a word.

    Where its own folders cannot be written, it makes a temporary one and names it in MPLCONFIGDIR,
    which the kernels started from here inherit.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import matplotlib

        matplotlib.get_configdir()
        matplotlib.get_cachedir()
        import matplotlib.font_manager
    finally:
        logger.setLevel(level)


def pytest_configure() -> None:
    """The hook of pytest."""
    prepare()


def setup(app: Any) -> dict[str, bool]:
    """The hook of Sphinx."""
    prepare()
    return {"parallel_read_safe": True, "parallel_write_safe": True}
