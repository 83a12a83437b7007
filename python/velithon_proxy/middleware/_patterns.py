"""Patterns of routes, ``/users/{id}/{rest:path}``: what they match, and the path that is sent in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from .._errors import ConfigurationError
from .._show import show
from . import _paths
from ._answers import Refusal

_PARAMETER: Final = re.compile(r"{([A-Za-z_][A-Za-z0-9_]*)(?::([A-Za-z_][A-Za-z0-9_]*))?}")
_KINDS: Final[Mapping[str, str]] = {
    "str": "[^/]+",
    "path": ".*",
    "int": "[0-9]+",
    "float": r"[0-9]+(?:\.[0-9]+)?",
    "uuid": "[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}",
}


class Pattern:
    """The pattern of one route.

    Attributes:
        base: path prefix for a gateway that serves the route.
        shown: the pattern without the kinds of its parameters, for documents.
        parameters: their names.

    Raises:
        ConfigurationError: no pattern, or ``path_rewrite`` has a parameter that the pattern has not.
    """

    def __init__(self, path: object, *, strip_path: bool = False, path_rewrite: object = None) -> None:
        if not isinstance(path, str) or not path.startswith("/"):
            raise ConfigurationError(f"path must be a pattern that starts with '/', not {show(path)}", field="path")
        if not isinstance(strip_path, bool):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without types
            raise ConfigurationError(f"strip_path must be True or False, not {show(strip_path)}", field="strip_path")
        self._match: Final = re.compile(_expression(path), re.DOTALL).fullmatch
        self.parameters: Final = [match[1] for match in _PARAMETER.finditer(path)]
        self.shown: Final = _PARAMETER.sub(r"{\1}", path)
        rewrite = _template(path_rewrite, self.parameters, strip_path)
        fixed = _fixed(path if rewrite is None else rewrite)
        self.base: Final = fixed if strip_path or rewrite is not None else "/"
        # What stands between the parameters, and their names: "/v1/{a:int}/x" is ["/v1/", "/x"] and ["a"].
        parts = None if rewrite is None else _PARAMETER.split(rewrite)
        self._rewrite: Final = None if parts is None else (parts[::3], parts[1::3])

    def match(self, path: str) -> dict[str, Any] | None:
        """Return the parameters of a decoded path that matches, else ``None``."""
        match = self._match(path)
        return None if match is None else match.groupdict()

    def target(self, path: str) -> str:
        """Return the path to hand to the gateway, decoded: with ``path_rewrite`` another one than was asked for.

        Args:
            path: decoded; it matches.

        Raises:
            Refusal: 400, a parameter leads out of what stands before it.
        """
        if self._rewrite is None and ".." not in path:
            return path
        match = self._match(path)
        if match is None:
            return path
        if self._rewrite is None:
            target, starts = path, [match.start(name) for name in self.parameters]
        else:
            literals, names = self._rewrite
            target, starts = literals[0], list[int]()
            for name, literal in zip(names, literals[1:], strict=True):
                starts.append(len(target))
                target += match[name] + literal
        if ".." in target and any(_paths.leads_out(target, start) for start in starts):
            raise Refusal(400, "the path has dot segments that lead out of it")
        return target


def _expression(path: str) -> str:
    """The regular expression of a pattern; each of its parts is linear in the length of a path."""
    parts: list[str] = []
    at = 0
    for match in _PARAMETER.finditer(path):
        kind = match[2] or "str"
        if kind not in _KINDS:
            raise ConfigurationError(
                f"path: {{{match[1]}:{kind}}} is of no known kind; {', '.join(_KINDS)} are", field="path"
            )
        parts += [re.escape(path[at : match.start()]), f"(?P<{match[1]}>{_KINDS[kind]})"]
        at = match.end()
    rest = path[at:]
    if "{" in rest or "}" in rest or any("}" in part for part in parts[::2]):
        raise ConfigurationError(f"path: {show(path)} has a brace that belongs to no parameter", field="path")
    try:
        re.compile("".join(parts))
    except re.error as error:
        raise ConfigurationError(f"path: {show(path)} is not a pattern: {error}", field="path") from None
    return "".join([*parts, re.escape(rest)])


def _fixed(pattern: str) -> str:
    """What stands before the first parameter, in whole segments."""
    literal, brace, _ = pattern.partition("{")
    fixed = literal[: literal.rfind("/")] if brace else literal
    _paths.parse_prefix(fixed or "/")
    return fixed or "/"


def _template(given: object, parameters: list[str], strip_path: bool) -> str | None:
    if given is None:
        return None
    if strip_path:
        raise ConfigurationError("path_rewrite and strip_path are given: one of them says what is sent",
                                 field="path_rewrite")  # fmt: skip
    if not isinstance(given, str) or not given.startswith("/"):
        raise ConfigurationError(
            f"path_rewrite must be a path that starts with '/', not {show(given)}", field="path_rewrite"
        )
    named = [match[1] for match in _PARAMETER.finditer(given)]
    unknown = [name for name in named if name not in parameters]
    if unknown:
        raise ConfigurationError(
            f"path_rewrite: the pattern has no parameter {unknown[0]}; it has {', '.join(parameters) or 'none'}",
            field="path_rewrite",
        )
    return given
