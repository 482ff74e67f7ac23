from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.upstreams import mqtt


@pytest.mark.needs("mosquitto")
def test_a_tiny_run_measures_us_and_the_peer(tmp_path: Path) -> None:
    found = mqtt.run(tmp_path, records=2_000, rest_s=0, versions=["5"])
    for who in ("edge-agent, MQTT 5", "Mosquitto's bridge"):
        assert found[who]["messages/s"] > 0 and found[who]["us CPU/message"] >= 0
