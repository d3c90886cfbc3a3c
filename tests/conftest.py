"""Test-wide set-up: patch the standard library for gevent before anything else is imported."""

from gevent import monkey

monkey.patch_all()
