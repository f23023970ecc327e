# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many examples hypothesis tries in a fuzz test: a fixed number, the same ones each time, unless the environment's
ISCSIBOOT_FUZZ_EXAMPLES asks for another.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_EXAMPLES = "ISCSIBOOT_FUZZ_EXAMPLES"


def budget(examples: int) -> settings:
    """The settings of a test that ``make check`` gives so many examples."""
    return settings(
        max_examples=int(os.environ.get(_EXAMPLES, str(examples))),
        deadline=None,
        derandomize=_EXAMPLES not in os.environ,
        suppress_health_check=[HealthCheck.too_slow],
    )
