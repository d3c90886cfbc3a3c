"""Test-wide set-up: patch the standard library for gevent before anything else is imported."""

from gevent import monkey

monkey.patch_all()

from hypothesis import settings  # noqa: E402 - after the patching

# No deadline an example: a busy machine is no fault of the code.
settings.register_profile("fsctl", deadline=None)
settings.load_profile("fsctl")
