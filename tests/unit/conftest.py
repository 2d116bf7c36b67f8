"""Unit tests are offline: a socket to anywhere but this machine fails the test."""

import pytest
from pytest_socket import socket_allow_hosts


@pytest.fixture(autouse=True)
def _offline() -> None:
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
