"""Run scenarios in this interpreter: `play.py NAME...`; without a name, list them."""

from __future__ import annotations

import faulthandler
import sys
import time
from types import FunctionType

import scenarios_abuse
import scenarios_closing
import scenarios_exits
import scenarios_fields
import scenarios_objects
import scenarios_streams
import scenarios_traffic

SCENARIOS: dict[str, FunctionType] = {
    name: function
    for module in (
        scenarios_abuse,
        scenarios_closing,
        scenarios_exits,
        scenarios_fields,
        scenarios_objects,
        scenarios_streams,
        scenarios_traffic,
    )
    for name, function in vars(module).items()
    if isinstance(function, FunctionType) and function.__module__ == module.__name__ and not name.startswith("_")
}


def main() -> None:
    if not sys.argv[1:]:
        for name, function in SCENARIOS.items():
            print(f"{name:40} {(function.__doc__ or '').splitlines()[0]}")
        return
    faulthandler.enable()
    for name in sys.argv[1:]:
        start = time.monotonic()
        SCENARIOS[name]()
        print(f"{name}: ok, {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
