# SPDX-License-Identifier: LGPL-2.1-or-later
"""Settings of all tests: property tests have a fixed budget, the same cases in every run, and no stopwatch.

A stopwatch would make a busy machine a failing one; new cases are the business of the long runs in tests/fuzz.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.lanes import Lanes, ordered

settings.register_profile(
    "iscsiboot", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("iscsiboot")


def pytest_configure() -> None:
    """Take signals as at a terminal: a shell and nohup make what they start ignore some, and many tests send them."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first."""
    items[:] = ordered((item.nodeid, item) for item in items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n 2``, as in ``make check``."""
    return Lanes(config, log)
