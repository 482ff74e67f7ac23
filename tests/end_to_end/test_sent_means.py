"""An upstream that is sent means instead of records."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents, producer_to
from tests.forward.http_upstream import HttpUpstream, http_upstream
from tests.patience import eventually

UPSTREAM = '[[upstream]]\nname = "{}"\nurl = "{}"\nbatch_age = "0s"\ncompression = "none"\n'


def arrived(server: HttpUpstream) -> list[tuple[str, str]]:
    return [(one["stream"], one["time"]) for got in server.got for one in got.records]


async def test_one_gets_a_record_a_minute_and_another_all_of_them(tmp_path: Path) -> None:
    async with http_upstream() as means, http_upstream() as raw:
        config = STORE + UPSTREAM.format("means", means.url) + 'send = "1m means"\n'
        config += UPSTREAM.format("raw", raw.url) + 'streams = ["t/**"]\n'
        agent = AgentProcess(tmp_path, "agent", config)
        async with (
            agents(agent),
            producer_to(f"{agent.url}/ingest/t/1", source="pi") as producer,
        ):
            for minute in range(4):
                for second in (0, 30):
                    time = f"2026-06-01T10:{minute:02}:{second:02}Z"
                    await producer.send({"time": time, "t": minute + second / 60})
            await producer.flush()
            # A minute is complete when its stream is a minute further.
            await eventually(lambda: len(arrived(means)) == 2, "two minutes arrive")
            await eventually(lambda: len(arrived(raw)) == 8, "the records arrive")
        assert arrived(means) == [("1m/t/1", f"2026-06-01T10:0{n}:00Z") for n in range(2)]
        (first, _) = [one["fields"] for got in means.got for one in got.records]
        assert (first["t_count"], first["t_min"], first["t_max"]) == (2, 0.0, 0.5)
        assert first["t_mean"] == 0.25
