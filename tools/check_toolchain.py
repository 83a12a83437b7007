"""Says what a build of the project lacks on this machine; exit code 1 when something does.

The Makefile runs it before anything that compiles, with the same checks as an installation by pip.
"""

from __future__ import annotations

import toolchain

toolchain.check_platform()
toolchain.check_c_compiler()
toolchain.find_go()
