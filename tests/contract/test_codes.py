"""One list of codes, phases and flags, written in three languages: capi/abi.h, core and _errors.py."""

from __future__ import annotations

import re
from pathlib import Path

from velithon_proxy import _errors, _pool
from velithon_proxy._errors import PHASES, PROXY_ERRORS, VALUE_ERRORS, Code, ProxyError

ROOT = Path(__file__).parents[2]
HEADER = (ROOT / "capi" / "abi.h").read_text("utf-8")


def in_header(prefix: str) -> dict[str, int]:
    """Names without their prefix, and values, of enumerators such as VP_CODE_OK = 0 or = 1u << 2."""
    found = re.findall(rf"^\s*{prefix}_(\w+) = (\d+)(?:u << (\d+))?,?", HEADER, re.MULTILINE)
    return {name: int(value) << int(shift or 0) for name, value, shift in found}


def in_go(path: str, prefix: str) -> list[str]:
    """Names without their prefix of the constants that count from 0 in one block, in order."""
    blocks = re.findall(r"^const \(\n((?:\t.*\n)+)\)", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    for block in blocks:
        if re.match(rf"\t{prefix}\w+ .*= iota\b", block):
            return re.findall(rf"^\t{prefix}(\w+)", block, re.MULTILINE)
    raise AssertionError(f"{path} has no block of {prefix} constants")


def words(name: str) -> str:
    """CamelCase as in Go to the form of the enumerations: NoHealthyTarget to NO_HEALTHY_TARGET."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def test_codes_are_the_same_everywhere() -> None:
    in_python = {code.name: code.value for code in Code if code is not Code.FORKED}
    assert in_header("VP_CODE") == in_python
    assert {words(name): value for value, name in enumerate(in_go("core/errors.go", "Code"))} == in_python


def test_forked_is_a_code_that_the_core_cannot_send() -> None:
    assert Code.FORKED not in in_header("VP_CODE").values()


def test_phases_are_the_same_everywhere() -> None:
    in_python = {name.upper(): number for number, name in enumerate(PHASES)}
    assert in_header("VP_PHASE") == in_python
    assert {words(name): value for value, name in enumerate(in_go("core/h1/errors.go", "Phase"))} == in_python


def test_flags_of_an_outcome_are_the_same() -> None:
    assert in_header("VP_OUTCOME") == {
        "SENT": _errors.FLAG_REQUEST_SENT,
        "REUSED": _errors.FLAG_REUSED,
        "RESPONDED": _errors.FLAG_RESPONSE_STARTED,
        "SOURCE": _errors.FLAG_BODY_AWAITED,
    }


def test_flags_of_a_request_are_the_same() -> None:
    in_python = {name[5:]: value for name, value in vars(_pool).items() if name.startswith("FLAG_")}
    assert in_header("VP_FLAG") == {**in_python, "LAST": 16}


def test_every_code_has_exactly_one_exception() -> None:
    assert PROXY_ERRORS.keys() | VALUE_ERRORS.keys() | {Code.OK, Code.CANCELLED} == set(Code)
    assert not PROXY_ERRORS.keys() & VALUE_ERRORS.keys()
    classes = [*PROXY_ERRORS.values(), *VALUE_ERRORS.values()]
    assert len(classes) == len(set(classes))


def test_every_final_class_of_the_tree_has_a_code() -> None:
    def leaves(cls: type[ProxyError]) -> set[type[ProxyError]]:
        below = cls.__subclasses__()
        return set().union(*map(leaves, below)) if below else {cls}

    assert leaves(ProxyError) <= set(PROXY_ERRORS.values())
