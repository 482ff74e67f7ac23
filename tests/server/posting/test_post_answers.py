"""The bytes of an answer, as h11 reads them."""

from __future__ import annotations

import h11
import pytest

from edge_agent.server.posting.post_answers import PostAnswer, response


@pytest.mark.parametrize(
    "told, is_last, more",
    [
        (PostAnswer(200, {"stored": 1}), False, {}),
        (PostAnswer(503, {"error": {}}, 0.2), False, {b"retry-after": b"1"}),
        (PostAnswer(401, {}), True, {b"www-authenticate": b'Bearer realm="edge-agent"'}),
    ],
)
def test_an_answer_is_whole_http(told: PostAnswer, is_last: bool, more: dict[bytes, bytes]) -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(response(told, is_last=is_last))
    head, body = client.next_event(), client.next_event()
    assert isinstance(head, h11.Response) and isinstance(body, h11.Data)
    headers = dict(head.headers)
    assert head.status_code == told.status and bytes(body.data).endswith(b"}\n")
    assert headers.items() >= more.items() and (b"retry-after" in headers) == bool(told.retry_after)
    assert isinstance(client.next_event(), h11.EndOfMessage)
    assert (client.their_state is h11.MUST_CLOSE) == is_last
