"""The program of docs/sensors/serial.md at a pseudo-terminal, which is a tty as any other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.docs.examples import examples_of
from tests.docs.sensors.sensors import behind_a_relay, filled_in, more_than, running, said, values
from tests.end_to_end.keys import Keys
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("pyserial")


@contextmanager
def device(link: Path) -> Iterator[int]:
    """A terminal at ``link``; its other end, which is the device."""
    near, far = os.openpty()
    link.unlink(missing_ok=True)
    link.symlink_to(os.ttyname(far))
    try:
        yield near
    finally:
        # As a plug that is pulled: who reads gets an error.
        os.close(far)
        os.close(near)


async def until_said(text: str, folder: Path) -> None:
    with trio.fail_after(2 * PATIENCE_S):
        while text not in said(folder):
            await trio.sleep(0.05)


async def test_lines_become_records_and_a_pulled_plug_is_waited_for(
    tmp_path: Path, keys: Keys
) -> None:
    (example,) = examples_of("sensors/serial.md", "python")
    link = tmp_path / "ttyUSB0"
    (tmp_path / "ca.pem").write_bytes(keys.ca.read_bytes())
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        code = filled_in(example.code, relay.port, keys).replace("sleep(5)", "sleep(0.1)")
        before, _, after = code.partition('PORT = "')
        code = f'{before}PORT = "{link}"{after[after.index(chr(10)) :]}'
        (tmp_path / "scale.py").write_text(code)
        with running([sys.executable, "scale.py"], tmp_path):
            await until_said("could not open port", tmp_path)
            with device(link) as near:
                await until_opened(near, agent, tmp_path)
                os.write(near, b"0.5,1,3.9\r\n0.75,\xf80,3.9\r\n1.5,1\r\n2.0,1,3.9\r\n")
                await until_said("left out b'1.5,1\\r\\n': 2 columns", tmp_path)
                relay.cut()
                os.write(near, b"3.0,1,3.9\r\n4.0,1,")
                await trio.sleep(0.1)
                os.write(near, b"3.8\r\n")
                relay.restore()
                await more_than(agent, await agent.count(), tmp_path)
            await until_said("trying again", tmp_path)
            with device(link) as near:
                await until_opened(near, agent, tmp_path)
                os.write(near, b"5.0,0,3.8\r\n")

                while (await values(agent, "weight_kg"))[-1] != 5.0:
                    await trio.sleep(0.05)
        found = [weight for weight in await values(agent, "weight_kg") if weight]
    assert found == [0.5, 2.0, 3.0, 4.0, 5.0]


async def until_opened(near: int, agent: object, folder: Path) -> None:
    """The device goes on printing noughts until they arrive: what it said before is lost."""
    from tests.end_to_end.support import AgentProcess

    assert isinstance(agent, AgentProcess)
    before = await agent.count()
    with trio.fail_after(2 * PATIENCE_S):
        while await agent.count() == before:
            os.write(near, b"0.0,0,0.0\r\n")
            await trio.sleep(0.1)
    assert said(folder)
