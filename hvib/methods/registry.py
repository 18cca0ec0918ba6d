"""The methods by name."""

from hvib.house.registry import Registry
from hvib.methods.method import Method
from hvib.run import Run

METHODS: Registry[Method] = Registry("method", "hvib.methods")


def method_of(run: Run) -> Method:
    """The method of a run, whose settings fit it.

    Raises:
        ValueError: the method is unknown, or the run's settings do not fit it.
    """
    method = METHODS.find(run.method)
    method.check(run)
    return method
