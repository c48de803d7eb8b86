"""At home in FastAPI (extra ``fastapi``): one client for the life of the app, as a dependency.

::

    app = FastAPI(lifespan=lifespan())
    add_error_handlers(app)

    @app.get("/experiences/{experience_id}")
    async def show(experience_id: str, client: DistinctDep) -> models.ExperienceMetrics:
        return await client.metrics.experience(experience_id)

The models are responses under the vendors' own names, and request bodies too: ``Annotated[models.Visit, Body()]``, for
FastAPI takes only its own kinds of classes for a body unasked. A test without a network overrides the dependency:
``app.dependency_overrides[get_client] = lambda: client``.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any, cast

import msgspec
from fastapi import Depends, Request, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.websockets import WebSocketState
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.types import Lifespan, Message, Receive, Scope, Send

from distinct_async.client import DistinctClient
from distinct_async.core import drain
from distinct_async.engine import log
from distinct_async.errors import (
    APIError,
    AuthenticationError,
    CheckpointError,
    ClientStateError,
    ConfigurationError,
    DistinctError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    StorageError,
)
from distinct_async.lifetime import Factory, opened
from distinct_async.models.wire import wire_names
from distinct_async.sansio.messages import Vendor
from distinct_async.walk import Page, Walk

__all__ = ["DistinctDep", "add_error_handlers", "get_client", "jsonl_response", "lifespan"]

_STATE = "distinct_client"  # the client's name in the request's state and in `app.state`
_NOT_RUN = (
    "there is no DistinctClient, because the app's lifespan did not run: make the app with "
    "FastAPI(lifespan=lifespan()), and let it start. In tests: `with TestClient(app) as http`; on a bare ASGI "
    "transport, which runs no lifespan, `async with app.router.lifespan_context(app)`; or "
    "app.dependency_overrides[get_client] = lambda: client"
)


# --- the client -------------------------------------------------------------------------------------------------------


def lifespan(
    factory: Factory | None = None, inner: Lifespan[Any] | None = None, require: Collection[Vendor] = ()
) -> Callable[[Starlette], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """What to give to ``FastAPI(lifespan=...)``: opens one client when the app starts, and closes it at the end.

    :param factory: makes the client; else ``DistinctClient()``, with its keys from the environment.
    :param inner: your own lifespan; its state is kept. It runs within the client's life: there, the client is
        ``app.state.distinct_client``.
    :param require: ``("distinct", "vantio")`` or one of them: without its key the app does not start.
    :raises ConfigurationError: when the app starts, for a key that is required and missing.
    """
    if inspect.isasyncgenfunction(inner):  # FastAPI takes these too
        inner = asynccontextmanager(inner)

    @asynccontextmanager
    async def run(app: Starlette) -> AsyncGenerator[dict[str, Any]]:
        async with opened(factory, require) as client:
            setattr(app.state, _STATE, client)
            try:
                async with inner(app) if inner is not None else nullcontext() as state:
                    yield {**(state or {}), _STATE: client}
            finally:
                delattr(app.state, _STATE)

    return run


async def get_client(conn: HTTPConnection) -> DistinctClient:
    """The app's client, as a dependency of HTTP and WebSocket routes; of mounted apps too.

    It is looked for in the request's state, which mounted apps share, then in ``app.state.distinct_client``.

    :raises RuntimeError: where the lifespan never ran; it says how to run it.
    """
    for holder in (conn, conn.scope.get("app")):
        client = getattr(getattr(holder, "state", None), _STATE, None)
        if client is not None:
            return cast("DistinctClient", client)
    raise RuntimeError(_NOT_RUN)


DistinctDep = Annotated[DistinctClient, Depends(get_client)]
"""The app's client, as the annotation of a route's parameter."""


# --- a walk as a response ---------------------------------------------------------------------------------------------


def jsonl_response(walk: Walk[Any], request: Request) -> Response:
    """A walk, streamed page by page as JSON lines (``application/jsonl``): a line for each row, in wire names.

    When the caller goes away, the run and its requests end, even while a slow page is awaited. An error of the first
    page is raised before anything is sent, so `add_error_handlers` gives it a status of its own; one of a later page
    cuts the connection: an answer that ends properly is the whole walk.

    :param walk: what to stream: ``client.metrics.total_visits(...)``, say.
    :param request: the route's own, which tells when its caller is gone.
    """
    return _JSONLines(walk, request.receive)


class _JSONLines(StreamingResponse):
    media_type = "application/jsonl"

    def __init__(self, walk: Walk[Any], receive: Receive) -> None:
        super().__init__(())
        self._walk = walk
        self._receive = receive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # the request has it
        # Starlette listens for the end of the connection only below spec 2.4; from there on it waits for `send` to
        # raise, and so sits out a slow page for nobody.
        stream = asyncio.create_task(self.stream_response(send))
        gone = asyncio.create_task(self.listen_for_disconnect(self._receive))
        try:
            await asyncio.wait((stream, gone), return_when=asyncio.FIRST_COMPLETED)
            if stream.done():
                stream.result()
        except ClientDisconnect:
            pass
        finally:
            await drain((stream, gone))
        if self.background is not None:
            await self.background()

    async def stream_response(self, send: Send) -> None:
        async def tell(message: Message) -> None:
            try:
                await send(message)
            except OSError:  # only here: a RequestTimeoutError of the walk is one too
                raise ClientDisconnect from None

        started = False
        async with self._walk.run() as run:
            async for page in run.pages():  # the first is always given
                if not started:
                    started = True
                    head = {"status": self.status_code, "headers": self.raw_headers}
                    await tell({"type": "http.response.start", **head})
                await tell({"type": "http.response.body", "body": _lines(page), "more_body": True})
        await tell({"type": "http.response.body", "body": b"", "more_body": False})


def _lines(page: Page[Any]) -> bytes:
    rows = page.items
    names = wire_names(type(rows[0])).items() if rows else ()
    return msgspec.json.Encoder().encode_lines([{wire: getattr(row, name) for wire, name in names} for row in rows])


# --- errors as responses ----------------------------------------------------------------------------------------------

_DETAILS = {
    404: "What was asked for does not exist.",
    502: "A service that this one depends on failed, or gave an answer that cannot be used.",
    503: "A service that this one depends on asks for a pause.",
    504: "A service that this one depends on gave no answer in time.",
}
_CLOSE_CODES = {404: 1008, 422: 1008, 503: 1013}  # RFC 6455: the caller's mistake; try again later; else 1011


def add_error_handlers(app: Starlette) -> None:
    """Answer the library's errors with RFC 9457 problems (``application/problem+json``).

    ======  ============================================================================================
    422     `InvalidRequestError`, `CheckpointError`: the caller's mistake, told in `detail`
    404     `NotFoundError`
    503     a vendor's 429 or 503; its ``Retry-After`` is passed on
    504     `RequestTimeoutError`
    500     a key that is missing or refused, and other mistakes of the app's own: the caller is told nothing
    502     whatever else goes wrong with a vendor
    ======  ============================================================================================

    From 500 up, the log tells which error it was. A WebSocket that was accepted is closed, with a code to match.
    A mounted app answers its own errors: call this for it, too.
    """
    app.add_exception_handler(DistinctError, _answer)  # type: ignore[arg-type]  # it takes both kinds of connection


async def _answer(conn: HTTPConnection, error: Exception) -> Response | None:
    assert isinstance(error, DistinctError)  # noqa: S101  # for the type checker
    status = _status(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        where = error.operation.partition("(")[0] if error.operation else error.message  # then the words are our own
        log.error("answered with %d: %s (%s)", status, type(error).__name__, where)
    title = HTTPStatus(status).phrase
    if isinstance(conn, WebSocket) and conn.application_state is WebSocketState.CONNECTED:
        await conn.close(_CLOSE_CODES.get(status, 1011), title)
        return None
    problem = {"type": "about:blank", "title": title, "status": status}
    detail = error.message if status == HTTPStatus.UNPROCESSABLE_ENTITY else _DETAILS.get(status)
    if detail is not None:
        problem["detail"] = detail
    headers = {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE and isinstance(error, APIError) and error.retry_after is not None:
        headers["Retry-After"] = str(ceil(error.retry_after))
    return JSONResponse(problem, status, headers, "application/problem+json")


def _status(error: DistinctError) -> HTTPStatus:
    match error:
        case InvalidRequestError() | CheckpointError():
            return HTTPStatus.UNPROCESSABLE_ENTITY
        case NotFoundError():
            return HTTPStatus.NOT_FOUND
        case RateLimitError() | ServerError(status=503):
            return HTTPStatus.SERVICE_UNAVAILABLE
        case RequestTimeoutError():
            return HTTPStatus.GATEWAY_TIMEOUT
        case ConfigurationError() | ClientStateError() | StorageError():
            return HTTPStatus.INTERNAL_SERVER_ERROR
        case AuthenticationError() | PermissionDeniedError():
            return HTTPStatus.INTERNAL_SERVER_ERROR
    return HTTPStatus.BAD_GATEWAY
