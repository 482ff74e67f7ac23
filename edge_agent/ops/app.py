"""The routes of the people's port, as a Starlette application.

========================= =====================================================================
``/``                     the page (`page`); ``?q=`` narrows its streams
``/stream/NAME``          charts of one stream
``/static/…``             what the pages are made of
``/login``, ``/logout``   POST: begin and end a session (`sign_in`)
``/healthz``              the verdict and its reasons; 503 where it is ``failed``
``/metrics``              for Prometheus
``/api/status``           the whole picture (`status.Status`)
``/api/streams``          streams and what each said last; ``?stream=PATTERN``
``/api/query``            a bounded question (`edge_agent.live`); ``?format=json|ndjson|csv``
``/api/subscribe``        records as they become durable: lines of JSON, or server-sent events
``/api/consumers``        who has come how far; POST: pause, resume, rewind, skip, forget (`orders`)
``/api/resends``          what upstreams are sent once more; POST: begin, look, cancel (`orders`)
``/api/sources``          whose sources are; POST: move, forget (`sources`)
``/api/tokens``           when, and from where, each token was used last
``/api/quarantine``       what could not be used; ``?after=&limit=``; POST: replay, drop
========================= =====================================================================

Whoever is not let in (`admit`) gets an error here, before any route is looked at. Every error
reads ``{"error": {"code": …, "message": …}}``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from urllib.parse import parse_qsl

import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_agent.errors import ProtocolError, StoreError
from edge_agent.forward import OrderRefused
from edge_agent.history import is_about_history
from edge_agent.net.access import Readable, bearer_secret, everything, nothing
from edge_agent.ops import access
from edge_agent.ops.access import AccessRefusal, Rules
from edge_agent.ops.facts import Sources
from edge_agent.ops.history_answers import HistoryAnswers
from edge_agent.ops.http_connection import (
    CALLER,
    App,
    Caller,
    Message,
    Receive,
    Scope,
    Send,
)
from edge_agent.ops.long_answers import LiveView, Pieces, QueryAnswers
from edge_agent.ops.orders.routes import OrderRoutes
from edge_agent.ops.packed import takes_gzip
from edge_agent.ops.page.chart_page import render_chart
from edge_agent.ops.page.files import answer_file, answer_page
from edge_agent.ops.page.frame import HEADERS
from edge_agent.ops.page.page import QUARANTINE_SHOWN, render_locked, render_page
from edge_agent.ops.page.stream_list import rows_of
from edge_agent.ops.parameters import each_once, refuse_unknown
from edge_agent.ops.sampler import Watch
from edge_agent.ops.sign_in import SignIn
from edge_agent.ops.status import Status
from edge_agent.ops.stream_answers import Exposed, stream_pieces
from edge_agent.store import Quarantined
from edge_agent.values.record import NANOSECONDS
from edge_agent.values.stream_names import compile_pattern

#: Asked for most often, so that it does not go through Starlette, which takes as long to find a
#: route as the agent does for all the rest of a question.
QUERY_PATH = "/api/query"
_MAY_READ = "edge_agent.may_read"
_SIGNED_IN = "edge_agent.signed_in"
_MAY_STILL = "edge_agent.may_still"
#: Refusals that are worth a person's attention: what was asked for in vain is not.
_TOLD = (400, 401, 403, 503)
#: Of every answer that does not say otherwise.
_COMMON = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def make_app(watch: Watch, rules: Rules) -> App:
    """The application: the routes behind the door."""
    sign_in = SignIn(watch.sources, rules)
    routes = make_routes(watch, sign_in)
    app = Starlette(
        routes=routes,
        exception_handlers={
            ProtocolError: _known_error,
            OrderRefused: _order_refused,
            StoreError: _known_error,
            HTTPException: _http_error,
        },
    )
    [query] = [route.app for route in routes if route.path == QUERY_PATH]
    return Door(app, query, rules, watch.sources, sign_in)


def make_routes(watch: Watch, sign_in: SignIn) -> list[Route]:
    """All that can be asked for; ``docs/http-api.md`` says of each what it takes and answers."""
    routes = _Routes(watch)
    orders = OrderRoutes(watch.sources, _may_read)
    return [
        Route("/", routes.page),
        Route("/stream/{name:path}", routes.chart),
        Route("/static/{path:path}", answer_file),
        Route("/login", sign_in.login, methods=["POST"]),
        Route("/logout", sign_in.logout, methods=["POST"]),
        Route("/healthz", routes.health),
        Route("/metrics", routes.metrics),
        Route("/api/status", routes.status),
        Route("/api/streams", routes.streams),
        Route(QUERY_PATH, _QueryApp(watch), methods=["GET"]),
        Route("/api/subscribe", routes.subscribe),
        Route("/api/consumers", orders.consumers, methods=["GET", "POST"]),
        Route("/api/resends", orders.resends, methods=["GET", "POST"]),
        Route("/api/sources", orders.sources, methods=["GET", "POST"]),
        Route("/api/tokens", orders.tokens),
        Route("/api/quarantine", orders.quarantine, methods=["GET", "POST"]),
    ]


class Door:
    """Lets in whom the rules let in, and says so to the routes and to the port: to ``query`` for
    questions, to ``app`` for everything else.
    """

    def __init__(
        self, app: App, query: App, rules: Rules, sources: Sources, sign_in: SignIn
    ) -> None:
        self._app, self._query = app, query
        self._sign_in = sign_in
        self._rules = rules
        self._sources = sources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = _seen(scope, self._sign_in)
        answer = await self._judge(request, scope.get(CALLER))
        headers = list(_COMMON)
        if request.origin is not None and request.origin.lower() in self._rules.origins:
            headers += [(b"access-control-allow-origin", request.origin.encode("latin-1"))]
            headers += [(b"vary", b"Origin"), (b"access-control-allow-headers", b"Authorization")]
        else:
            headers += [(b"cross-origin-resource-policy", b"same-origin")]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [*message.get("headers", ())]
                said = {name.lower() for name, _ in own}
                said.discard(b"vary")
                message["headers"] = own + [one for one in headers if one[0] not in said]
            await send(message)

        if isinstance(answer, AccessRefusal):
            response = error_response(answer.status, answer.code, answer.message)
            await response(scope, receive, send_with_headers)
        elif request.method == "OPTIONS":
            await Response(status_code=204)(scope, receive, send_with_headers)
        else:
            scope[_MAY_READ] = answer
            scope[_SIGNED_IN] = request.session is not None
            scope[_MAY_STILL] = partial(self._may_still, scope)
            if request.path == QUERY_PATH:
                await self._query(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)

    def _may_still(self, scope: Scope) -> bool:
        """Whether who asked a while ago would be let in now: tokens and sessions come to an end."""
        answer = access.admit(_seen(scope, self._sign_in), self._rules)
        return not isinstance(answer, AccessRefusal)

    def _note_use(self, request: access.Request, caller: Caller | None) -> None:
        tokens, uses = self._sources.tokens, self._sources.uses
        secret = bearer_secret(request.authorization) or request.session
        if tokens is None or uses is None or secret is None:
            return
        token = tokens.find(secret)
        if token is not None:
            uses.note(token.name, caller.address if caller is not None else "")

    async def _judge(
        self, request: access.Request, caller: Caller | None
    ) -> Readable | AccessRefusal:
        rules, sources = self._rules, self._sources
        answer = access.admit(request, rules)
        is_unknown = isinstance(answer, AccessRefusal) and answer.status == 401
        if is_unknown and request.authorization is not None and sources.tokens is not None:
            # The token may have been made a moment ago.
            await sources.tokens.refresh()
            answer = access.admit(request, rules)
        if not isinstance(answer, AccessRefusal):
            self._note_use(request, caller)
        if caller is None:
            return answer
        if not isinstance(answer, AccessRefusal):
            admitted = answer
            who = access.identity(request, rules, admitted, caller.address)
            if who is None or caller.proved(who, lambda: access.admit(request, rules) is admitted):
                return admitted
            answer = AccessRefusal(
                503, "full", "all places are taken (http.connections); try again"
            )
        if answer.status in _TOLD:
            sources.refused.note("http.address", caller.address, answer.code, answer.message)
        return answer


class _Routes:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._exposed = Exposed(watch.directory, watch.sources.config.http.expose)

    async def page(self, request: Request) -> Response:
        may_read = _may_read(request)
        if may_read is nothing:
            return _locked(request)
        if request.headers.get("sec-fetch-dest") == "document":
            # Somebody opens it, who will probably look at a chart; it is not the page that looks
            # for news.
            await self._prepare()
        sources = self._watch.sources
        status = await self._watch.look()
        kept: list[tuple[int, Quarantined]] = []
        if status.store.quarantine_entries and status.store.readable:
            found = await sources.log.newest_quarantine(10 * QUARANTINE_SHOWN)
            kept = [one for one in found if may_read(one[1].stream)][:QUARANTINE_SHOWN]
        make = partial(
            render_page,
            _only(status, may_read),
            rows_of(self._watch.directory, may_read),
            sources.clock.read().wall_ns,
            wanted=request.query_params.get("q", "")[:200],
            quarantine=kept,
            signed_in=request.scope[_SIGNED_IN],
        )
        # 300 streams take 13 ms, which no ack is to wait for.
        return await trio.to_thread.run_sync(lambda: answer_page(request, make(), HEADERS))

    async def chart(self, request: Request) -> Response:
        if _may_read(request) is nothing:
            return _locked(request)
        # It starts while the browser fetches what the page is made of.
        await self._prepare()
        name = request.path_params["name"]
        now_s = self._watch.sources.clock.read().wall_ns / NANOSECONDS
        html = render_chart(name, request.query_params, now_s, signed_in=request.scope[_SIGNED_IN])
        return answer_page(request, html, HEADERS)

    async def _prepare(self) -> None:
        """Have the process started that answers questions about history, if it can be."""
        asker = self._watch.sources.asker
        if asker is not None:
            with suppress(StoreError):
                await asker.prepare()

    async def health(self, request: Request) -> Response:
        verdict = (await self._watch.look()).health
        return _json(verdict, 503 if verdict.status == "failed" else 200)

    async def metrics(self, request: Request) -> Response:
        status = await self._watch.look()
        now_ns = self._watch.sources.clock.read().wall_ns
        exposed = self._exposed.samples(_may_read(request), now_ns)
        # Its library brings urllib's and http's servers and clients along, 0.7 MB, and most agents
        # are never asked. In a thread, as 15 ms (on a small board 150) would keep acks waiting.
        await trio.to_thread.run_sync(import_module, "edge_agent.ops.prometheus")
        from edge_agent.ops.prometheus import CONTENT_TYPE, render

        text = render(self._watch.sources.metrics, status, exposed)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    async def status(self, request: Request) -> Response:
        return _json(_only(await self._watch.look(), _may_read(request)))

    async def streams(self, request: Request) -> Response:
        given = each_once(request.query_params.multi_items())
        refuse_unknown(given, ("stream",))
        directory = self._watch.directory
        matches = compile_pattern(given.get("stream", "**"))
        may_read = _may_read(request)
        listing = directory.listing(lambda name: may_read(name) and matches(name))
        return Pieces(stream_pieces(directory, listing), {"Content-Type": "application/json"})

    async def subscribe(self, request: Request) -> LiveView | Response:
        if request.method == "HEAD":
            return Response()
        return LiveView(
            self._watch.sources.live,
            each_once(request.query_params.multi_items()),
            _may_read(request),
            events="text/event-stream" in request.headers.get("accept", ""),
            last_event_id=request.headers.get("last-event-id"),
            may_still=request.scope[_MAY_STILL],
        )


class _QueryApp:
    """Questions, as an ASGI application of its own: no route of Starlette is looked for first."""

    def __init__(self, watch: Watch) -> None:
        self._queries = QueryAnswers(watch.sources.live, watch.sources.config.limits.queries)
        self._history = HistoryAnswers(watch.sources, self._queries.places)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One question."""
        try:
            response = await self._answer(scope)
        except (ProtocolError, StoreError) as error:
            response = _response_to(error)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        query: bytes = scope["query_string"]
        parameters = each_once(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        shape = parameters.pop("format", "json")
        may_read: Readable = scope[_MAY_READ]
        if is_about_history(parameters):
            pack = takes_gzip(Request(scope))
            return await self._history.answer(parameters, shape, may_read, pack=pack)
        return await self._queries.answer(parameters, shape, may_read)


def error_response(status: int, code: str, message: str) -> Response:
    """An error as every client of this port gets it."""
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="edge-agent"'
    elif status == 503:
        headers["Retry-After"] = "2"
    elif status == 405:
        headers["Allow"] = "GET, HEAD"  # and POST where orders are taken
    return _json({"error": {"code": code, "message": message}}, status, headers)


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(value) + b"\n"
    return Response(body, status, headers, media_type="application/json")


def _locked(request: Request) -> Response:
    path, query = request.scope["raw_path"], request.scope["query_string"]
    then = (path + b"?" * bool(query) + query).decode("latin-1")
    return answer_page(request, render_locked(then), HEADERS)


def _may_read(request: Request) -> Readable:
    may_read: Readable = request.scope[_MAY_READ]
    return may_read


def _only(status: Status, may_read: Readable) -> Status:
    """The picture without connections and alarms whose stream may not be read; strangers who were
    refused, and the journal, are for those who may read everything.
    """
    if may_read is everything:
        return status
    kept = tuple(one for one in status.connections if may_read(one.stream))
    alarms = tuple(one for one in status.alarms if may_read(one.stream))
    # No stream can be called so; what matches even this matches all.
    refused, journal = (status.refused, status.journal) if may_read("**") else ((), ())
    return replace(status, connections=kept, alarms=alarms, refused=refused, journal=journal)


def _seen(scope: Scope, sign_in: SignIn) -> access.Request:
    headers: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.lower(), value.decode("latin-1"))
    return access.Request(
        method=scope["method"],
        path=scope["path"],
        scheme=scope["scheme"],
        host=headers.get(b"host"),
        origin=headers.get(b"origin"),
        authorization=headers.get(b"authorization"),
        fetch_site=headers.get(b"sec-fetch-site"),
        order=headers.get(access.ORDER_HEADER.encode()),
        upgrade=headers.get(b"upgrade"),
        session=sign_in.secret_of(headers.get(b"cookie")),
    )


def _response_to(error: Exception) -> Response:
    """What is answered where a question cannot be."""
    if isinstance(error, ProtocolError):
        status = {"busy": 503, "forbidden": 403, "too_long": 413}.get(error.code, 400)
        return error_response(status, error.code, error.message)
    return error_response(503, "store_failing", str(error))


async def _known_error(request: Request, error: Exception) -> Response:
    return _response_to(error)


async def _order_refused(request: Request, error: Exception) -> Response:
    return error_response(409, "refused", str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        known = "status, streams, query, subscribe, consumers, resends, sources, quarantine, tokens"
        message = f"there is /, /healthz, /metrics, and below /api/ {known}"
        return error_response(404, "not_found", message)
    return error_response(error.status_code, "bad_request", str(error.detail))
