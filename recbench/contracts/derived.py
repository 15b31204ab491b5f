"""Parameters and summary of an entry in a single-file plugin, read from the class that it is about.

Plugins that must not import torch give addresses of their classes, and declare everything themselves.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from recbench.contracts.parameters import Parameter
from recbench.errors import quoted

_WRITTEN: dict[str, Any] = {str(each): each for each in (list[bool], list[int], list[float], list[str])}
_WRITTEN |= {each.__name__: each for each in (bool, int, float, str)}
"""Types by what ``from __future__ import annotations`` leaves of them."""


def parameters_of(name: str, factory: Callable[..., Any], **facts: Mapping[str, Any] | None) -> tuple[Parameter, ...]:
    """Return the arguments of a factory that have a default, as parameters of the entry with this name.

    The type is that of the annotation, and of the default where there is none.

    Args:
        name: of the entry, for messages.
        factory: the class, or a function that makes the object.
        facts: what else there is to say of parameters, such as ``minimum``, each by the parameters' names.

    Raises:
        TypeError: the factory is the address of a class, which is not imported here.
        ValueError: an argument that is passed by keyword has no default, a fact is of no parameter, or a parameter is
            invalid.

    >>> def make(setting, *, width=16, rate: float = 1): ...
    >>> [(each.name, each.type_name, each.minimum) for each in parameters_of("m", make, minimum={"width": 1})]
    [('width', 'int', 1), ('rate', 'float', None)]
    """
    if isinstance(factory, str):
        raise TypeError(f"{name}: of() reads the class itself; with the address {quoted(factory)}, declare parameters")
    given = {fact: values for fact, values in facts.items() if values is not None}
    found = []
    for argument in inspect.signature(factory).parameters.values():
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD, argument.POSITIONAL_ONLY):
            continue
        if argument.default is not argument.empty:
            own = {fact: values[argument.name] for fact, values in given.items() if argument.name in values}
            found.append(Parameter(argument.name, _type_of(argument), argument.default, **{"doc": "", **own}))
        elif argument.kind is argument.KEYWORD_ONLY:
            raise ValueError(f"{name}: the argument {argument.name} has no default, from which a parameter is made")
    names = {parameter.name for parameter in found}
    for fact, values in given.items():
        for unknown in sorted(values.keys() - names):
            raise ValueError(f"{name}: {fact} names {quoted(unknown)}, which is not one of its parameters")
    return tuple(found)


def summary_of(factory: Callable[..., Any]) -> str:
    """Return the first line of a class's docstring, or else of its module's, without the full stop."""
    while isinstance(factory, partial):
        factory = factory.func
    module = sys.modules.get(getattr(factory, "__module__", ""))
    for documented in (factory, module):
        text = inspect.cleandoc(vars(documented).get("__doc__") or "") if hasattr(documented, "__dict__") else ""
        if text:
            return text.partition("\n")[0].removesuffix(".")
    return ""


def _type_of(argument: inspect.Parameter) -> Any:
    annotation = argument.annotation
    if annotation is argument.empty:
        return type(argument.default)
    return _WRITTEN.get(annotation, annotation) if isinstance(annotation, str) else annotation
