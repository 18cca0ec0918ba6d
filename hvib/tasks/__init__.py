"""Tasks: each is one value in one file, and `register` adds a reader's."""

from hvib.tasks.registry import TASKS, build, load, make_run
from hvib.tasks.task import ACCURACY, SQUARED_ERROR, Metric, PaperRow, Planned, Task

register = TASKS.register

__all__ = [
    "ACCURACY",
    "SQUARED_ERROR",
    "TASKS",
    "Metric",
    "PaperRow",
    "Planned",
    "Task",
    "build",
    "load",
    "make_run",
    "register",
]
