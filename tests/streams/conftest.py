"""A hub on loopback, and the peers of ``peers.py`` that are closed in the end."""

import pytest

from fsctl.streams.endpoint import Limits
from fsctl.streams.hub import Hub
from tests.streams import peers


@pytest.fixture
def make_hub():
    hubs = []

    def make(**options):
        limits = options.pop("limits", {})
        hub = Hub(options.pop("dial", peers.dial), limits=Limits(**{"connect_timeout": 2.0, **limits}), **options)
        hub.start()
        hubs.append(hub)
        return hub

    yield make
    for hub in hubs:
        hub.stop()


@pytest.fixture
def hub(make_hub):
    return make_hub()


@pytest.fixture
def make_endpoint():
    endpoints = []

    def make(**options):
        endpoints.append(peers.Endpoint(**options))
        return endpoints[-1]

    yield make
    for endpoint in endpoints:
        endpoint.close()


@pytest.fixture
def endpoint(make_endpoint):
    return make_endpoint()
