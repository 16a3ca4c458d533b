"""The root of errors that may be of the user's type as well."""

from __future__ import annotations

from typing import Any, Self

from ray.exceptions.base import RayError, notes_of


class DualError(RayError):
    """An error whose subclasses are made on the spot, together with the type of the exception behind it.

    Its own attributes are class attributes, too: these shield against properties and slots of the same name in the
    other base. So do the methods here: the other base may define any of them, and ours must stay in force.
    """

    cause: BaseException | None = None
    """The exception behind it, or None if it could not travel."""
    _origin: tuple[Any, ...] | None = None
    """How to make this object again, as a reduce value; set where it was made from an envelope."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Keep the other base's hook from running: a class made for one error is no new class of the user's."""

    __getattribute__ = object.__getattribute__
    __setattr__ = object.__setattr__
    __format__ = object.__format__
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            return super().__reduce__()
        notes = notes_of(self)
        return (*self._origin[:2], {"__notes__": notes} if notes else None)

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state or {})

    def __copy__(self) -> Self:
        function, args, state = (*self.__reduce__(), None)[:3]
        error: Self = function(*args)
        error.__setstate__(state)
        return error

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()
