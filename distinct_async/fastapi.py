"""FastAPI integration (extra ``fastapi``): one client per app, as a dependency.

::

    app = FastAPI(lifespan=lifespan())
    add_error_handlers(app)

    @app.get("/experiences/{experience_id}")
    async def show(experience_id: str, client: DistinctDep) -> models.ExperienceMetrics:
        return await client.metrics.experience(experience_id)

Routes can return all models, with the vendors' field names. As a request body a model needs the annotation
``Annotated[models.Visit, Body()]``, because FastAPI does not recognise attrs classes as bodies. In tests, override the
dependency: ``app.dependency_overrides[get_client] = lambda: client``.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any, Final, cast

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
from distinct_async.lifetime import Factory, open_client
from distinct_async.models.wire import wire_names
from distinct_async.vendors import Vendor
from distinct_async.walk import Page, Walk

__all__ = [  # noqa: RUF022  # plainly sorted, as a test asserts
    "DistinctDep",
    "JSONLResponse",
    "PROBLEMS",
    "add_error_handlers",
    "get_client",
    "jsonl_response",
    "lifespan",
]

_STATE_KEY = "distinct_client"  # the client's name in the request's state and in `app.state`
_NO_LIFESPAN = (
    "there is no DistinctClient, because the app's lifespan did not run: create the app with "
    "FastAPI(lifespan=lifespan()). Starlette does not run the lifespan of a mounted app: give lifespan() to the app in "
    "which it is mounted. In tests use `with TestClient(app) as http`; with a bare ASGI transport, which runs no "
    "lifespan, use `async with app.router.lifespan_context(app)`, or "
    "app.dependency_overrides[get_client] = lambda: client"
)


# --- the client -------------------------------------------------------------------------------------------------------


def lifespan(
    factory: Factory | None = None, inner: Lifespan[Any] | None = None, require: Collection[Vendor] = ()
) -> Callable[[Starlette], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """Return a lifespan for ``FastAPI(lifespan=...)`` that opens one client at startup and closes it at shutdown.

    Args:
        factory: A function that creates the client; by default ``DistinctClient()``, with keys from the environment.
        inner: Your own lifespan, run while the client is open; its state is kept. In it, the client is
            ``app.state.distinct_client``.
        require: The vendors whose keys the app cannot start without: ``"distinct"``, ``"vantio"`` or both.

    Returns:
        The lifespan.

    Raises:
        ConfigurationError: At startup, if the key of a required vendor is missing.
    """
    if inspect.isasyncgenfunction(inner):  # FastAPI accepts these too
        inner = asynccontextmanager(inner)

    @asynccontextmanager
    async def run(app: Starlette) -> AsyncGenerator[dict[str, Any]]:
        async with open_client(factory, require) as client:
            setattr(app.state, _STATE_KEY, client)
            try:
                async with inner(app) if inner is not None else nullcontext() as state:
                    yield {**(state or {}), _STATE_KEY: client}
            finally:
                delattr(app.state, _STATE_KEY)

    return run


async def get_client(conn: HTTPConnection) -> DistinctClient:
    """Return the app's client: a dependency for HTTP and WebSocket routes, also of mounted apps.

    Args:
        conn: The request or WebSocket. Its state, which mounted apps share, has the client; so does
            ``app.state.distinct_client``.

    Returns:
        The client that `lifespan` opened.

    Raises:
        RuntimeError: If the lifespan did not run.
    """
    for holder in (conn, conn.scope.get("app")):
        client = getattr(getattr(holder, "state", None), _STATE_KEY, None)
        if client is not None:
            return cast("DistinctClient", client)
    raise RuntimeError(_NO_LIFESPAN)


DistinctDep = Annotated[DistinctClient, Depends(get_client)]
"""The app's client, as the annotation of a route's parameter."""


# --- a walk as a response ---------------------------------------------------------------------------------------------


def jsonl_response(walk: Walk[Any], request: Request) -> Response:
    """Return a response that streams a walk as JSON lines (``application/jsonl``), with the vendors' field names.

    If the caller disconnects, the run ends and its requests are cancelled, even while it waits for a slow page. An
    error in the first page is raised before anything is sent, so that `add_error_handlers` can set its status. An error
    in a later page closes the connection: a response that ends properly is complete.

    Args:
        walk: The walk to stream, for example ``client.metrics.total_visits("tp-1")``.
        request: The request of the route, which shows when its caller disconnects.

    Returns:
        The response, to be returned from the route.
    """
    return JSONLResponse(walk, request)


class JSONLResponse(StreamingResponse, JSONResponse):  # FastAPI documents the model of a JSONResponse only
    """The response of `jsonl_response`, a stream of JSON lines.

    As the ``response_class`` of a route, with the model of a row as ``response_model``, it documents the stream::

        @app.get("/visits", response_class=JSONLResponse, response_model=models.Visit)

    Args:
        walk: The walk to stream.
        request: The request of the route.
        status_code: The status of the response.
    """

    media_type = "application/jsonl"

    def __init__(self, walk: Walk[Any], request: Request, status_code: int = HTTPStatus.OK) -> None:
        super().__init__((), status_code)
        self._walk = walk
        self._receive = request.receive
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # the request has it
        """Stream the walk until it ends or the caller disconnects."""
        # From ASGI 2.4 on, Starlette does not listen for a disconnect but waits for `send` to raise OSError, so that it
        # would wait for a slow page in vain (asgi.readthedocs.io, "Disconnected Client - send exception").
        stream = asyncio.create_task(self.stream_response(send))
        disconnect = asyncio.create_task(self.listen_for_disconnect(self._receive))
        try:
            await asyncio.wait((stream, disconnect), return_when=asyncio.FIRST_COMPLETED)
            if stream.done():
                stream.result()
        except ClientDisconnect:
            pass
        except DistinctError as error:
            # A server closes the connection of a response that does not end; an exception it would log with two
            # tracebacks too. Test clients, which name no version of ASGI's spec, would take the response for complete.
            if not self._started or "spec_version" not in scope.get("asgi", ()):
                raise
            log.error("cut off a stream: %s (%s)", type(error).__name__, _safe_cause(error))
            return
        finally:
            await drain((stream, disconnect))
        if self.background is not None:
            await self.background()

    async def stream_response(self, send: Send) -> None:
        """Send the pages."""

        async def forward(message: Message) -> None:
            try:
                await send(message)
            except OSError:  # caught only around `send`, because RequestTimeoutError is an OSError too
                raise ClientDisconnect from None

        async with self._walk.run() as run:
            async for page in run.pages():  # there is at least one
                if not self._started:
                    self._started = True
                    head = {"status": self.status_code, "headers": self.raw_headers}
                    await forward({"type": "http.response.start", **head})
                await forward({"type": "http.response.body", "body": _encode_lines(page), "more_body": True})
        await forward({"type": "http.response.body", "body": b"", "more_body": False})


def _encode_lines(page: Page[Any]) -> bytes:
    rows = page.items
    names = wire_names(type(rows[0])).items() if rows else ()
    return msgspec.json.Encoder().encode_lines([{wire: getattr(row, name) for wire, name in names} for row in rows])


# --- errors as responses ----------------------------------------------------------------------------------------------

_PROBLEM_MEDIA_TYPE = "application/problem+json"
_STATUS_DETAILS = {
    404: "The requested resource does not exist.",
    502: "An upstream service failed, or sent an invalid response.",
    503: "An upstream service is temporarily unavailable.",
    504: "An upstream service did not respond in time.",
}
# WebSocket close codes: 1008 policy violation, 1013 try again later; 1011 internal error for the rest
_CLOSE_CODES = {404: 1008, 422: 1008, 503: 1013}


def _problem_content(status: int, detail: str | None) -> dict[str, Any]:
    """Return the content of a problem."""
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return problem if detail is None else {**problem, "detail": detail}


def _openapi_response(status: int, description: str, detail: str | None, **others: object) -> dict[str, Any]:
    """Return how OpenAPI describes a problem."""
    example = _problem_content(status, detail)
    properties: dict[str, Any] = {name: {"const": value} for name, value in example.items()}
    if detail is not None:
        properties["detail"] = {"type": "string"}
    schema = {"title": "Problem", "type": "object", "required": [*properties], "properties": properties}
    return {
        "description": description,
        "content": {_PROBLEM_MEDIA_TYPE: {"schema": schema, "example": example}},
        **others,
    }


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    404: _openapi_response(404, "The vendor does not know the id.", _STATUS_DETAILS[404]),
    422: _openapi_response(422, "An argument is invalid.", "page_size must be at least 1, got 0"),
    500: _openapi_response(500, "An API key is missing or rejected, or the service is misconfigured.", None),
    502: _openapi_response(502, "The vendor failed, or sent an invalid response.", _STATUS_DETAILS[502]),
    503: _openapi_response(
        503,
        "The vendor is overloaded or limits the rate.",
        _STATUS_DETAILS[503],
        headers={"Retry-After": {"description": "Seconds, if the vendor says.", "schema": {"type": "integer"}}},
    ),
    504: _openapi_response(504, "The vendor did not respond in time.", _STATUS_DETAILS[504]),
}
"""The responses of `add_error_handlers`, for OpenAPI: ``FastAPI(responses=PROBLEMS)``, or of one router or route."""

# FastAPI's own response to a request that it cannot parse
PROBLEMS[422]["content"]["application/json"] = {
    "schema": {"type": "object", "properties": {"detail": {"type": "array", "items": {"type": "object"}}}}
}


def add_error_handlers(app: Starlette) -> None:
    """Convert the library's errors into RFC 9457 problem responses (``application/problem+json``).

    ======  ============================================================================================
    422     `InvalidRequestError`, `CheckpointError`: an error of the caller, described in `detail`
    404     `NotFoundError`
    503     a vendor's 429 or 503, with its ``Retry-After``
    504     `RequestTimeoutError`
    500     a missing or rejected API key, and other errors of the app itself; without details
    502     any other error of a vendor
    ======  ============================================================================================

    From 500 up, the error is logged. A WebSocket that was accepted is closed with a matching code.

    Args:
        app: The app. A mounted app handles its own errors: call this function for it too.
    """
    app.add_exception_handler(DistinctError, _problem_response)  # type: ignore[arg-type]  # it accepts both kinds of connection


async def _problem_response(conn: HTTPConnection, error: Exception) -> Response | None:
    assert isinstance(error, DistinctError)  # noqa: S101  # for the type checker
    status = _http_status(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("responded with %d: %s (%s)", status, type(error).__name__, _safe_cause(error))
    if isinstance(conn, WebSocket) and conn.application_state is WebSocketState.CONNECTED:
        await conn.close(_CLOSE_CODES.get(status, 1011), HTTPStatus(status).phrase)
        return None
    detail = error.message if status == HTTPStatus.UNPROCESSABLE_ENTITY else _STATUS_DETAILS.get(status)
    headers = {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE and isinstance(error, APIError) and error.retry_after is not None:
        headers["Retry-After"] = str(ceil(error.retry_after))
    return JSONResponse(_problem_content(status, detail), status, headers, _PROBLEM_MEDIA_TYPE)


def _safe_cause(error: DistinctError) -> str:
    """Return the operation without its ids. An error without an operation contains no text of a vendor."""
    return error.operation.partition("(")[0] if error.operation else str(error)


def _http_status(error: DistinctError) -> HTTPStatus:
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
