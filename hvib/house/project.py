"""Where the project lies, for the folders that are named relative to it."""

import os
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[2]

PROJECT = _SOURCE if (_SOURCE / "pyproject.toml").is_file() else Path.cwd()
"""The checkout's root; for an installed package the working folder, never `site-packages`."""


def folder_of(variable: str, default: str) -> Path:
    """The folder that an environment variable names, else the default, relative to `PROJECT`.

    A notebook's working folder is its own, the command line's is any: what is relative to it would
    be another folder for each of them.
    """
    named = os.environ.get(variable) or default
    try:
        return PROJECT / Path(named).expanduser()
    except RuntimeError as error:  # of an account that is not here
        raise ValueError(f"{variable} = {named!r}: no such home; give the whole path") from error
