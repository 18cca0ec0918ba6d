"""The one kind of error that bad input gets: it names the parameter, the value and the mend."""

from collections.abc import Iterable


def require(condition: bool, name: str, value: object, mend: str) -> None:
    """Raise the one kind of error bad input gets: name, value, mend.

    Raises:
        ValueError: `condition` is false.
    """
    if not condition:
        raise ValueError(f"{name} = {value!r}: {mend}")


def require_known(name: str, value: str, known: Iterable[str]) -> None:
    """Raise unless `value` is one of `known`.

    Raises:
        ValueError: it is not; the message lists what is.
    """
    known = sorted(known)
    told = ", ".join(one or "''" for one in known)
    require(value in known, name, value, f"unknown; choose one of {told}")
