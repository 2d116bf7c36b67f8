"""The demonstration, with the public wheel from the index."""

from __future__ import annotations

import re

import pytest

from tests.integration.conftest import Builder

pytestmark = pytest.mark.integration


def test_a_defect_is_seen_on_the_public_wheel_and_not_on_ours(built: Builder) -> None:
    ours = built.patched("httptools").wheel.name

    said = built.freewheel("demo", "httptools", "--probe", "H2")

    assert re.search(r"httptools-0\.9\.0-\S+\.whl +1 of 1 fail", said)
    assert re.search(rf"{re.escape(ours)} +0 of 1 fail +pass", said)
