"""Calls one script: ``isolated_main.py MODULE.FUNCTION ARGUMENT...``."""

import faulthandler
import importlib
import signal
import sys


def main() -> None:
    # What isolated_runner.py asks of a script that hangs.
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    module, function = sys.argv[1].split(".")
    getattr(importlib.import_module(module), function)(*sys.argv[2:])
    print("done", flush=True)


if __name__ == "__main__":
    main()
