"""Values by name: those that the modules of a package hold, and those that a reader adds."""

import importlib
import pkgutil
from typing import Any, Generic, Protocol, TypeVar

from hvib.check import require_known


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str: ...


Value = TypeVar("Value", bound=Named)


class Registry(Generic[Value]):
    """The tasks, or the methods, that there are.

    The package's own are found on the first question: each of its modules may hold a tuple of
    values, `DEFINED`. So a new one is one new file, and no import registers anything.

    Args:
        kind: what an error calls a value: `task` or `method`.
        package: whose modules define the values, as `hvib.tasks`.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._own: dict[str, Value] = {}
        self._added: dict[str, Value] = {}

    def register(self, value: Value) -> Value:
        """Add a value; an earlier one of its name gives way."""
        self._added[value.name] = value
        return value

    def forget(self, name: str) -> None:
        """Take back what `register` added."""
        del self._added[name]

    def all(self) -> dict[str, Value]:
        """Every value by its name."""
        if not self._own:
            folder = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(folder.__path__, f"{self.package}."):
                values: Any = getattr(importlib.import_module(module.name), "DEFINED", ())
                self._own |= {value.name: value for value in values}
        return self._own | self._added

    def find(self, name: str) -> Value:
        """The value of a name.

        Raises:
            ValueError: there is none; the message lists those that there are.
        """
        known = self.all()
        require_known(self.kind, name, known)
        return known[name]
