"""What every story starts from."""

from __future__ import annotations

import pytest

from tests.stories.stage import Stage


@pytest.fixture
def stage(tmp_path):
    """Builds stages; every one is closed, and looked over, in the end."""
    built = []

    def build(**settings):
        built.append(Stage(tmp_path / f"stage-{len(built)}", **settings))
        return built[-1]

    yield build
    for one in built:
        one.close()
