from __future__ import annotations

import pytest
import trio

from edge_agent.cli.async_main import run
from edge_agent.cli.common import Failure


def test_what_main_returns_is_returned() -> None:
    async def main() -> int:
        return 7

    assert run(main) == 7


def test_one_error_comes_out_of_any_number_of_nurseries_as_itself() -> None:
    async def main() -> None:
        async with trio.open_nursery(), trio.open_nursery():
            raise Failure("no")

    with pytest.raises(Failure, match="no"):
        run(main)


def test_several_errors_stay_a_group() -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, KeyError())
            nursery.start_soon(fail, ValueError())

    with pytest.raises(ExceptionGroup):
        run(main)


@pytest.mark.parametrize("wrapped", [False, True])
def test_ctrl_c_is_130(wrapped: bool) -> None:
    async def main() -> None:
        if not wrapped:
            raise KeyboardInterrupt
        async with trio.open_nursery():
            raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == 130
