"""What the types of the public API are made of: variables, and what a message is to a type checker.

A job's variables are `In`, what its handler takes, and `Out`, what it returns; those of flow modules in general are
`Input` and `Out`, and a call's are `Message` and `Output`. `In` is covariant, though a handler takes it: else a list of
jobs is one of objects to mypy. So a type checker lets a `Job[Mail, None]` pass for a `Job[object, None]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, Union

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # Where nothing is said, anything goes: `Job` is `Job[Any, Any]`.
    In = TypeVar("In", covariant=True, default=Any)
    Input = TypeVar("Input", contravariant=True, default=Any)
    Out = TypeVar("Out", covariant=True, default=Any)
    Message = TypeVar("Message", default=Any)
    Output = TypeVar("Output", default=Any)

    class NoOther(Generic[Message]):
        """Nobody has one."""

    # mypy looks at an argument after the others where a Callable is in its type; the job has to be looked at first, for
    # a dict that is written out must become the TypedDict that the job takes.
    Fitting: TypeAlias = Message | NoOther[Callable[[], Message]]
    """A message for a job that takes `Message`."""
else:
    from typing import TypeVar

    In = TypeVar("In", covariant=True)
    Input = TypeVar("Input", contravariant=True)
    Out = TypeVar("Out", covariant=True)
    Message = TypeVar("Message")
    Output = TypeVar("Output")
    Fitting = Union  # of one type, which is that type

Stored = TypeVar("Stored", bound=bool | int | float | str | list[Any] | Mapping[str, Any] | None)
"""An output that comes back from the database as what it was: a dataclass comes back as a dict, a tuple as a list."""
