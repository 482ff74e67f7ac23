"""The people's port, put together: address, TLS, who may, what is answered.

Off loopback it speaks https with the sensors' certificate and asks for a token, unless the
configuration says ``insecure``. Imported only where ``http.address`` is not ``"off"``.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import partial

import trio

from edge_agent.config import Config, format_address, parse_address
from edge_agent.net.accepting import listen_on
from edge_agent.net.access import is_loopback
from edge_agent.net.kept_sockets import KeptSockets, endpoint
from edge_agent.ops import http
from edge_agent.ops.access import Rules
from edge_agent.ops.app import make_app
from edge_agent.ops.facts import Sources
from edge_agent.ops.sampler import Watch
from edge_agent.security.tls import server_context


async def serve_people(
    watch: Watch,
    listeners: Sequence[trio.SocketListener] | None = None,
    *,
    kept: KeptSockets | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled; then for a second at most.

    Args:
        watch: what is shown; its `Watch.run` runs elsewhere.
        listeners: bound and listening, closed when this ends; None opens ``http.address``.
        kept: has sockets of the agent before this one.
        task_status: started with the address, ``host:port``, once it listens.

    Raises:
        OSError: the address cannot be listened on.
        ConfigError: the certificate cannot be used.
    """
    sources = watch.sources
    config, tokens = sources.config, sources.tokens
    host, port = parse_address(config.http.address)
    tls = await trio.to_thread.run_sync(_tls, config, host)
    if tls is not None:
        sources.renewed("http.address", tls, partial(_tls, config, host))
    if listeners is None:
        listeners = await listen_on(host, port, "http.address", kept)
    places = [endpoint(one.socket.fileno()) for one in listeners]
    serve = partial(
        http.serve,
        make_app(watch, _rules(sources, host)),
        listeners,
        tls=tls,
        places=config.http,
        tokens_changed=None if tokens is None else tokens.changed,
        refused=partial(sources.refused.note, "http.address"),
    )
    try:
        async with trio.open_nursery() as nursery:
            serving: http.Serving = await nursery.start(serve)
            task_status.started(format_address(*serving.addresses[0]))
    except* OSError:
        # It lets nobody in any more: whoever opens the port again opens another socket.
        if kept is not None:
            kept.drop(places)
        raise


def _rules(sources: Sources, host: str) -> Rules:
    config, tokens = sources.config, sources.tokens
    return Rules.of(
        host,
        config.http.hosts,
        config.http.origins,
        None if tokens is None else tokens.readable,
        insecure=config.listen.insecure,
        may_order=None if tokens is None else tokens.may_order,
    )


def _tls(config: Config, host: str) -> ssl.SSLContext | None:
    """The sensors' certificate, off loopback; on loopback there is nobody to hide from."""
    context = None if is_loopback(host) else server_context(config.listen)
    if context is not None:
        context.set_alpn_protocols(["http/1.1"])
    return context
