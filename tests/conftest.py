"""What a test needs and doesn't find is a failure: a skipped test proves nothing, and nobody reads the skips.

Tests that need root have the marker `root`, by themselves or because they use the fixture `as_root`. To leave them out
on purpose: pytest -m "not root".
"""

import os
import shutil
import signal

import pytest
from hypothesis import HealthCheck, settings

from rig.cuts import EVERY

# The same examples each time, however busy the machine: what fails, fails for all. `make cuts` looks for others.
settings.register_profile(
    "suite", derandomize=not EVERY, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("suite")

# Tests that run in the background, or by nohup, have these ignored; programs that they start would be deaf, too.
for ignored in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session")
def as_root() -> None:
    """For a test that mounts, or that makes users. It has the marker `root` by this."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "as_root" in getattr(item, "fixturenames", ()):
            item.add_marker("root")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        pytest.fail('needs root; to leave such tests out on purpose: pytest -m "not root"', pytrace=False)
    for marker in item.iter_markers("programs"):
        missing = [name for name in marker.args if shutil.which(name) is None]
        if missing:
            pytest.fail(f"needs {', '.join(missing)}, which `make need-test` installs", pytrace=False)
