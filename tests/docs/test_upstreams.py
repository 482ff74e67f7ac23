"""What ``docs/upstreams.md`` says: each configuration that it shows can be loaded."""

from __future__ import annotations

import pytest

from edge_agent.config import parse
from tests.docs.examples import Example, examples_of

PAGE = "upstreams.md"


@pytest.mark.parametrize("example", examples_of(PAGE, "toml"), ids=lambda one: one.title)
def test_each_configuration_of_the_page_loads(example: Example) -> None:
    assert parse(example.code, PAGE).upstream
