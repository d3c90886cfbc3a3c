"""Test-wide set-up: patch the standard library for gevent before anything else is imported."""

from gevent import monkey

monkey.patch_all()

import pytest  # noqa: E402 - after the patching
import structlog  # noqa: E402
from hypothesis import settings  # noqa: E402

from fsctl import log as logs  # noqa: E402

# No deadline an example: a busy machine is no fault of the code.
settings.register_profile("fsctl", deadline=None)
settings.load_profile("fsctl")


@pytest.fixture(autouse=True)
def every_level():
    """After a test that set up logging every line is written again, and `capture_logs` sees it in the next one."""
    yield
    if structlog.is_configured():
        logs.setup("debug", "text")
