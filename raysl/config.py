"""Frozen dataclasses as configuration: to and from plain dicts, dotted overrides, typed text.

Every mistake of a user is a ValueError whose sentence names the key and the nearest valid one.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Literal, Union, get_args, get_origin


def to_dict(value: Any) -> Any:
    """Plain dicts, lists and scalars, ready for JSON; tuples become lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    return value


def from_dict(kind: type, values: Mapping[str, Any], *, where: str = "") -> Any:
    """Build the dataclass `kind`; absent keys keep their defaults, unknown ones raise."""
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    for key in values:
        if key not in names:
            raise ValueError(unknown_name("field", where + key, [where + n for n in names]))
    try:
        return kind(**{k: coerce(v, hints[k], where=where + k) for k, v in values.items()})
    except TypeError as error:
        raise ValueError(f"{where.rstrip('.') or kind.__name__}: {error}") from None


def replace_at(config: Any, path: str, value: Any, *, where: str = "") -> Any:
    """A copy of the nested dataclass with the field at the dotted `path` set to `value`."""
    head, _, rest = path.partition(".")
    names = [f.name for f in dataclasses.fields(config)]
    if head not in names:
        raise ValueError(unknown_name("field", where + head, [where + n for n in names]))
    current = getattr(config, head)
    if rest:
        if not dataclasses.is_dataclass(current):
            raise ValueError(f"{where}{head} has no fields, so {where}{path} cannot be set.")
        new = replace_at(current, rest, value, where=f"{where}{head}.")
    elif dataclasses.is_dataclass(current) and isinstance(value, Mapping):
        new = from_dict(type(current), value, where=f"{where}{head}.")
    else:
        new = coerce(value, typing.get_type_hints(type(config))[head], where=where + head)
    return dataclasses.replace(config, **{head: new})


def coerce(value: Any, kind: Any, *, where: str) -> Any:
    """`value` as the annotated type `kind`; text is parsed ("1e-3", "500,2000", "none", "true")."""
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _coerce_union(value, get_args(kind), where)
    if origin is Literal:
        for option in get_args(kind):
            if value == option or (isinstance(value, str) and value == str(option)):
                return option
        raise ValueError(unknown_name("value", str(value), [str(o) for o in get_args(kind)], where))
    if origin in (tuple, list, Collection) or kind is tuple:
        return _coerce_tuple(value, get_args(kind), where)
    if origin in (dict, Mapping) or kind in (dict, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, typing.cast(type, kind)):
            return value
        if isinstance(value, str) and hasattr(kind, "parse"):
            return kind.parse(value)
        if isinstance(value, Mapping):
            return from_dict(typing.cast(type, kind), value, where=f"{where}.")
    return _coerce_scalar(value, kind, where)


def unknown_name(what: str, name: str, valid: Collection[str], where: str = "") -> str:
    """The sentence for a name that does not exist, with its near miss."""
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"valid: {', '.join(sorted(valid))}."
    return f"Unknown {what} {name!r}{f' for {where}' if where else ''}; {hint}"


def _coerce_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if type(None) in options and (value is None or value in ("none", "None", "null")):
        return None
    kinds = [o for o in options if o is not type(None)]
    errors = []
    for kind in kinds:
        try:
            return coerce(value, kind, where=where)
        except ValueError as error:
            errors.append(error)
    raise (
        errors[-1]
        if len(kinds) == 1
        else ValueError(
            f"{where} must be {' or '.join(describe(k) for k in options)}, not {value!r}."
        )
    )


def _coerce_tuple(value: Any, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.strip("()[]").split(",") if part.strip()]
    elif not isinstance(value, tuple | list):
        value = (value,)
    if not args:
        return tuple(value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(coerce(item, args[0], where=where) for item in value)
    if len(value) != len(args):
        raise ValueError(f"{where} needs {len(args)} values, not {len(value)}: {value!r}.")
    return tuple(coerce(v, a, where=where) for v, a in zip(value, args, strict=True))


def _coerce_scalar(value: Any, kind: Any, where: str) -> Any:
    wrong = ValueError(f"{where} must be {describe(kind)}, not {value!r}.")
    if kind is bool:
        table = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in table:
            return table[value.lower()]
        raise wrong
    if isinstance(value, bool):
        raise wrong
    try:
        if kind is int:
            number = int(value) if isinstance(value, str | int) else float(value)
            if number != int(number):
                raise wrong
            return int(number)
        if kind is float:
            return float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    if kind is str:
        return str(value)
    raise wrong


def describe(kind: Any) -> str:
    """A type as a user reads it: int, "number", a list of choices."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in args)
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in args)
    if origin in (tuple, list):
        if len(args) == 2 and args[1] is Ellipsis:
            return f"{describe(args[0])},..."
        return ",".join(describe(a) for a in args)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if kind is type(None):
        return "none"
    return names.get(kind, getattr(kind, "__name__", str(kind)))
