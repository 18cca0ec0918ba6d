"""Where the project lies, for the folders that are named relative to it."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
"""The checkout's root, in which `results/` and `data/` are looked for."""
