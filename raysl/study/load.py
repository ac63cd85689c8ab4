"""A study file: import it, list the arguments of its `study` function, call it with typed text."""

import importlib.util
import inspect
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from raysl.config import coerce, describe, unknown_name
from raysl.study.sizes import require_sizes
from raysl.study.spec import Study


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument of a study: its annotated type, default (None if required) and description."""

    name: str
    kind: Any
    default: Any
    required: bool
    text: str

    @property
    def usage(self) -> str:
        default = self.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        shown = "required" if self.required else f"default {default}"
        return f"{describe(self.kind)}; {shown}"


def load_module(path: Path) -> ModuleType:
    """Import a study file by its path; it must define `study(...)`."""
    if not path.exists():
        known = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        hint = unknown_name("study file", path.name, known) if known else "Check the path."
        raise ValueError(f"There is no study file {path}. {hint}")
    spec = importlib.util.spec_from_file_location(f"raysl_study_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file; a study is a .py file with study(...).")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    if not callable(getattr(module, "study", None)):
        raise ValueError(f"{path} defines no function study(...) that returns a Study.")
    return module


def arguments(module: ModuleType) -> list[Argument]:
    """The arguments of the module's study function, described by "name: text" in its docstring."""
    function = module.study
    hints = typing.get_type_hints(function)
    texts = dict(re.findall(r"^ +(\w+): (.+(?:\n {8,}.+)*)", function.__doc__ or "", re.M))
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        required = parameter.default is inspect.Parameter.empty
        found.append(
            Argument(
                name=name,
                kind=hints.get(name, str),
                default=None if required else parameter.default,
                required=required,
                text=" ".join(texts.get(name, "").split()),
            )
        )
    return found


def build_study(
    module: ModuleType, texts: Sequence[str], overrides: Mapping[str, str], *, small: bool = False
) -> Study:
    """Call the study function with "name=value" texts, then apply recipe overrides.

    small: the file's `small()` defaults, which finish in about a minute.
    """
    known = {argument.name: argument for argument in arguments(module)}
    values: dict[str, Any] = dict(module.small()) if small else {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(
                f"A study argument reads name=value, not {text!r}; "
                f"this study takes {', '.join(known)}."
            )
        if name not in known:
            raise ValueError(unknown_name("study argument", name, known))
        values[name] = coerce(value, known[name].kind, where=name)
    for argument in known.values():
        if argument.required and argument.name not in values:
            raise ValueError(
                f"The study needs {argument.name}={describe(argument.kind)}"
                f"{': ' + argument.text if argument.text else ''}."
            )
    if "sizes" in values:  # before the study takes its batch size from them
        require_sizes(values["sizes"])
    study: Study = module.study(**values)
    study.check_baseline()
    return study.with_overrides(overrides)
