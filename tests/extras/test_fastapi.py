"""`distinct_async.fastapi`: the client as a dependency, models as responses and bodies, walks as streams, errors."""

import asyncio
import inspect
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import aiohttp
import attrs
import httpx
import jsonschema_rs
import pytest
from fastapi import BackgroundTasks, Body, Depends, FastAPI, Request, Response, WebSocket

import distinct_async.fastapi
from distinct_async import DistinctClient, RetryPolicy, errors, models
from distinct_async.fastapi import (
    PROBLEMS,
    DistinctDep,
    JSONLResponse,
    add_error_handlers,
    get_client,
    jsonl_response,
    lifespan,
)
from distinct_async.testing import FakeServer, World

from .uvicorn_server import running

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
VISIT = models.Visit("user-1", NOON)
METRICS = "/v3/touchpoint/metrics"
SOON = 3.0  # seconds, against the minutes that a slow page would take


def client_of(fake: FakeServer, **settings: Any) -> DistinctClient:
    return DistinctClient(**{**fake.settings, "retry": RetryPolicy(attempts=1), **settings})


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A caller over a bare ASGI transport, which runs no lifespan."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http:
        yield http


@pytest.fixture
def app(client: DistinctClient) -> FastAPI:
    """An app whose client is the fixture's."""
    app = FastAPI()
    app.dependency_overrides[get_client] = lambda: client
    add_error_handlers(app)
    return app


def tasks() -> list[str]:
    """What is going on for a stream: itself, the watch for its caller's end, its pages."""
    names = [str(getattr(task.get_coro(), "__qualname__", "")) for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith(("JSONLResponse.", "StreamingResponse.", "Run."))]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


# --- one client -------------------------------------------------------------------------------------------------------


async def test_one_client_serves_http_websockets_and_mounted_apps_and_is_closed_at_the_end(fake: FakeServer) -> None:
    seen: list[DistinctClient] = []

    async def touchpoints(client: DistinctDep) -> int:
        seen.append(client)
        return (await client.metrics.experience("exp-1")).total_touchpoints

    async def socket(websocket: WebSocket, count: Annotated[int, Depends(touchpoints)]) -> None:
        await websocket.accept()
        await websocket.send_json(count)

    app, mounted = FastAPI(lifespan=lifespan(lambda: client_of(fake))), FastAPI()
    for each in (app, mounted):
        each.get("/count")(touchpoints)
        each.websocket("/socket")(socket)
    app.mount("/mounted", mounted)

    async with running(app) as url, aiohttp.ClientSession() as http:
        for prefix in (url, f"{url}/mounted"):
            async with http.get(f"{prefix}/count") as response:
                assert 3 == await response.json()
            async with http.ws_connect(f"{prefix}/socket") as websocket:
                assert 3 == await websocket.receive_json()

    assert (4, 1) == (len(seen), len({*seen}))
    assert 1 == fake.connections
    with pytest.raises(errors.ClientStateError):
        await seen[0].metrics.experience("exp-1")


async def test_where_the_transport_knows_no_state_the_client_is_that_of_the_app(fake: FakeServer) -> None:
    app = FastAPI(lifespan=lifespan(lambda: client_of(fake)))

    @app.get("/")
    async def same(client: DistinctDep) -> bool:
        return client is app.state.distinct_client

    async with app.router.lifespan_context(app), calling(app) as http:
        assert (await http.get("/")).json() is True


async def test_a_lifespan_that_never_ran_or_is_over_is_an_error_that_says_how_to_run_it(fake: FakeServer) -> None:
    app = FastAPI(lifespan=lifespan(lambda: client_of(fake)))

    @app.get("/")
    async def show(client: DistinctDep) -> None:
        pytest.fail(f"there is no {client}")

    async with calling(app) as http:
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"FastAPI\(lifespan=lifespan\(\)\).*mounted.*_context.*override"):
                await http.get("/")
            async with app.router.lifespan_context(app):
                pass


async def plain(app: FastAPI) -> AsyncIterator[Mapping[str, str] | None]:
    app.state.story = ["begins", repr(app.state.distinct_client)]
    yield {"colour": "red"}
    await app.state.distinct_client.metrics.experience("exp-1")  # still open
    app.state.story.append("ends")


async def without_state(app: FastAPI) -> AsyncIterator[None]:
    async for _ in plain(app):
        yield


@pytest.mark.parametrize(
    ("inner", "state"),
    [
        (plain, {"colour": "red"}),
        (asynccontextmanager(plain), {"colour": "red"}),
        (asynccontextmanager(without_state), {}),
    ],
    ids=["generator", "context manager", "without a state"],
)
async def test_the_users_own_lifespan_runs_within_the_clients_life_and_keeps_its_state(
    fake: FakeServer, inner: Any, state: Mapping[str, str]
) -> None:
    app = FastAPI(lifespan=lifespan(lambda: client_of(fake), inner))

    async with app.router.lifespan_context(app) as yielded:
        client = app.state.distinct_client
        assert {**state, "distinct_client": client} == yielded

    assert ["begins", repr(client), "ends"] == app.state.story
    assert 1 == len(fake.requests)


async def test_an_inner_lifespan_that_fails_leaves_no_client_open(fake: FakeServer) -> None:
    @asynccontextmanager
    async def failing(app: FastAPI) -> AsyncIterator[None]:
        if app.state.distinct_client is client:
            raise LookupError("no database")
        yield

    client = client_of(fake)
    app = FastAPI(lifespan=lifespan(lambda: client, failing))

    with pytest.raises(LookupError, match="no database"):
        async with app.router.lifespan_context(app):
            pytest.fail("it started")

    with pytest.raises(errors.ClientStateError):
        await client.metrics.experience("exp-1")


@pytest.mark.parametrize(("vendor", "variable"), [("distinct", "DISTINCT_API_KEY"), ("vantio", "VANTIO_API_KEY")])
async def test_an_app_that_lacks_a_required_key_does_not_start(
    vendor: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in {"DISTINCT_API_KEY", "VANTIO_API_KEY"} - {variable}:
        monkeypatch.setenv(name, "some-key")
    app = FastAPI(lifespan=lifespan(require=("distinct", "vantio")))

    with pytest.raises(errors.ConfigurationError, match=variable) as caught:
        async with app.router.lifespan_context(app):
            pytest.fail("it started")

    assert vendor == caught.value.vendor


@pytest.mark.parametrize("require", [("distinct", "vantoi"), "vantio"])
async def test_a_vendor_that_is_none_is_not_required_in_silence(require: Any) -> None:
    app = FastAPI(lifespan=lifespan(lambda: DistinctClient("key", vantio_api_key="sk_key"), require=require))

    with pytest.raises(errors.ConfigurationError, match="require takes vendors"):
        async with app.router.lifespan_context(app):
            pytest.fail("it started")


async def test_the_client_is_awaited_on_the_loop_and_not_in_a_thread() -> None:
    assert inspect.iscoroutinefunction(get_client)


# --- models -----------------------------------------------------------------------------------------------------------


async def vendors_own(fake: FakeServer, path: str, **query: str) -> Any:
    """What the vendor says, word for word."""
    headers = {"x-distinct-api-key": fake.api_key, "Authorization": f"Bearer {fake.vantio_api_key}"}
    body = json.loads(fake.respond("GET", path, query, headers).body)
    return body.get("data", body)


@pytest.fixture
async def routes(app: FastAPI, fake: FakeServer) -> AsyncIterator[tuple[httpx.AsyncClient, Mapping[str, Any]]]:
    """A route for each model by its name, and what each must return: the vendor's own JSON."""
    user = fake.world.users[0]
    impression = fake.world.impressions[0]

    @app.get("/ExperienceMetrics")
    async def experience(client: DistinctDep) -> models.ExperienceMetrics:
        return await client.metrics.experience("exp-1")

    @app.get("/UserMetrics")
    async def one_user(client: DistinctDep) -> models.UserMetrics:
        return await client.metrics.user(user, experience_id="exp-1")

    @app.get("/TouchpointMetrics")
    async def touchpoint(client: DistinctDep, of: str) -> models.TouchpointMetrics:
        return await client.metrics.touchpoint("tp-1", visits_type=of, page_size=2, offset=1)  # type: ignore[arg-type]

    @app.get("/Visits")
    async def visits(client: DistinctDep) -> list[models.Visit]:
        return await client.metrics.total_visits("tp-1", limit=60).collect()

    @app.get("/Impression")
    async def one_impression(client: DistinctDep) -> models.Impression:
        return await client.impressions.get(impression)

    wanted: dict[str, Any] = {
        "ExperienceMetrics": await vendors_own(fake, METRICS, metricsType="EXPERIENCE", experienceId="exp-1"),
        "UserMetrics": await vendors_own(fake, METRICS, metricsType="USER", experienceId="exp-1", userId=user),
        "Impression": await vendors_own(fake, f"/api/v1/impressions/{impression}"),
    }
    for of, word in (("TOTAL", "total"), ("UNIQUE", "unique")):
        touchpoint_of = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "visitsType": of}
        result = (await vendors_own(fake, METRICS, pageSize="2", offset="1", **touchpoint_of))["touchpoints"]
        details = result.pop(f"{word}VisitsDetails")
        flat = {"visits": details["items"], "pagination": details["pagination"]}
        wanted[f"TouchpointMetrics?of={of}"] = {"totalVisits": None, "uniqueVisits": None} | result | flat
        if of == "TOTAL":
            whole = await vendors_own(fake, METRICS, pageSize="60", **touchpoint_of)
            wanted["Visits"] = whole["touchpoints"]["totalVisitsDetails"]["items"]
    async with calling(app) as http:
        yield http, wanted


@pytest.mark.parametrize(
    "path",
    [
        "ExperienceMetrics",
        "UserMetrics",
        "TouchpointMetrics?of=TOTAL",
        "TouchpointMetrics?of=UNIQUE",
        "Visits",
        "Impression",
    ],
)
async def test_a_model_from_a_route_is_what_the_vendor_said(
    routes: tuple[httpx.AsyncClient, Mapping[str, Any]], path: str
) -> None:
    http, wanted = routes

    response = await http.get(f"/{path}")

    assert (200, wanted[path]) == (response.status_code, response.json())


def holds(schema: Mapping[str, Any], value: Any, components: Mapping[str, Any]) -> bool:
    """Whether `value` is what the schema says; every name must be known to it, and every keyword to this test."""
    match {key: each for key, each in schema.items() if key not in {"title", "description"}}:
        case {"$ref": str(ref), **rest} if not rest:
            return holds(components[ref.removeprefix("#/components/schemas/")], value, components)
        case {"anyOf": list(choices), **rest} if not rest:
            return any(holds(choice, value, components) for choice in choices)
        case {"type": "object", "additionalProperties": True, **rest} if not rest:
            return isinstance(value, dict)
        case {"type": "object", "properties": dict(known), "required": list(required), **rest} if not rest:
            own = isinstance(value, dict) and {*required} == {*known} == {*value}
            return own and all(holds(known[name], each, components) for name, each in value.items())
        case {"type": "array", "items": dict(items), **rest} if not rest:
            return isinstance(value, list) and all(holds(items, each, components) for each in value)
        case {"type": "string", "format": "date-time", **rest} if not rest:
            return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
        case {"type": str(name), **rest} if not rest:
            return type(value) is {"string": str, "integer": int, "null": type(None), "object": dict}[name]
    pytest.fail(f"a schema that this test does not know: {schema}")


async def test_the_openapi_schema_is_true_of_every_answer(
    routes: tuple[httpx.AsyncClient, Mapping[str, Any]],
) -> None:
    http, wanted = routes
    document = (await http.get("/openapi.json")).json()
    components = document["components"]["schemas"]

    for path, value in wanted.items():
        response = document["paths"][f"/{path.partition('?')[0]}"]["get"]["responses"]["200"]
        assert holds(response["content"]["application/json"]["schema"], value, components), path

    named = {cls.__name__ for cls in vars(models).values() if attrs.has(cls)}
    assert named == {name for name in components if "Validation" not in name}
    assert "One scan at a touchpoint" in components["Visit"]["description"]
    assert "pydantic" not in json.dumps(document)


VALUES = [
    VISIT,
    models.Pagination(0, 50),
    models.TouchpointSummary("tp-1", None, "entry", 3, 2),
    models.ExperienceMetrics(1, (models.TouchpointSummary("tp-1", "Entry", "entry", 3, 2),)),
    models.UserMetrics(1, (models.UserTouchpoint("tp-1", None, None, 2, (NOON, NOON)),)),
    models.TouchpointMetrics("tp-1", "Entry", None, None, 1, (VISIT,), models.Pagination(0, 50)),
    models.Impression("imp-1", "poster-1", "program-1", "student-1", NOON, "agent", None, {"a": [1, {"b": None}]}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
async def test_a_model_is_a_request_body_too(app: FastAPI, value: Any) -> None:
    taken: list[Any] = []

    async def take(body: Any) -> Any:
        taken.append(body)
        return body

    async def give() -> Any:
        return value

    take.__annotations__ |= {"body": Annotated[type(value), Body()], "return": type(value)}
    give.__annotations__["return"] = type(value)
    app.post("/")(take)
    app.get("/")(give)
    async with calling(app) as http:
        given = (await http.get("/")).json()
        again = await http.post("/", json=given)

    assert (200, given) == (again.status_code, again.json())
    assert [(type(value), value, hash(value))] == [(type(each), each, hash(each)) for each in taken]


async def test_a_list_of_models_is_a_request_body_of_itself(app: FastAPI) -> None:
    @app.post("/")
    async def take(body: list[models.Visit]) -> int:
        return body.count(VISIT)

    visit = {"userId": "user-1", "timestampUTC": "2026-06-01T12:00:00Z"}
    async with calling(app) as http:
        assert 2 == (await http.post("/", json=[visit, visit])).json()


@pytest.fixture
async def posting(app: FastAPI) -> AsyncIterator[Callable[..., Any]]:
    """What a route takes for a body that should be a visit or a touchpoint: a repr, or the places that are wrong."""

    @app.post("/visit")
    async def visit(body: Annotated[models.Visit, Body()]) -> str:
        return repr(body)

    @app.post("/touchpoint")
    async def touchpoint(body: Annotated[models.TouchpointSummary, Body()]) -> str:
        return repr(body)

    @app.post("/times")
    async def times(body: Annotated[models.UserTouchpoint, Body()]) -> str:
        return repr(body.timestamps_utc)

    async with calling(app) as http:

        async def post(path: str, body: Any) -> Any:
            response = await http.post(path, json=body)
            result = response.json()
            return result if response.status_code == 200 else [each["loc"] for each in result["detail"]]

        yield post


async def test_a_body_is_read_as_the_vendors_answers_are(posting: Callable[..., Any]) -> None:
    summary = repr(models.TouchpointSummary("tp-1", None, None, 3, 2))
    absent = {"id": "tp-1", "totalVisits": 3, "uniqueVisits": 2, "unknown": 1}
    assert summary == await posting("/touchpoint", absent)
    assert summary == await posting("/touchpoint", absent | {"name": None, "value": None})
    for time in ("2026-06-01T12:00:00", "2026-06-01T14:00:00+02:00", "2026-06-01T12:00:00Z"):
        assert repr(VISIT) == await posting("/visit", {"userId": "user-1", "timestampUTC": time})
        touchpoint = {"id": "tp-1", "totalVisits": 1, "timestampsUTC": [time]}
        assert repr((NOON,)) == await posting("/times", touchpoint)


async def test_a_body_of_another_shape_is_refused_in_wire_names(posting: Callable[..., Any]) -> None:
    off_calendar = "9999-12-31T23:59:59-01:00"
    assert [["body", "timestampUTC"]] == await posting("/visit", {"userId": "user-1"})
    assert [["body", "userId"]] == await posting("/visit", {"userId": 1, "timestampUTC": NOON.isoformat()})
    assert [["body", "timestampUTC"]] == await posting("/visit", {"userId": "user-1", "timestampUTC": off_calendar})
    assert [["body"]] == await posting("/visit", [])


async def test_in_a_union_each_model_is_written_as_itself(app: FastAPI) -> None:
    @app.get("/")
    async def show() -> list[models.Visit | models.Pagination]:
        return [VISIT, models.Pagination(0, 50)]

    async with calling(app) as http:
        result = (await http.get("/")).json()

    assert [{"userId": "user-1", "timestampUTC": "2026-06-01T12:00:00Z"}, {"offset": 0, "pageSize": 50}] == result


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_model_stays_slotted_and_frozen(value: Any) -> None:
    assert not hasattr(value, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.offset = 1


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def streaming(app: FastAPI) -> FastAPI:
    """Streams pages of 50: visits, and impressions."""

    @app.get("/visits/{touchpoint_id}")
    async def visits(touchpoint_id: str, request: Request, client: DistinctDep, prefetch: int = 4) -> Response:
        client = client.with_options(timeout=0.5) if prefetch == 1 else client
        return jsonl_response(client.metrics.total_visits(touchpoint_id, page_size=50, prefetch=prefetch), request)

    @app.get("/impressions")
    async def impressions(request: Request, client: DistinctDep) -> Response:
        return jsonl_response(client.impressions.list(page_size=50), request)

    return app


async def test_a_walk_is_streamed_as_lines_of_json_in_wire_names(streaming: FastAPI, world: World) -> None:
    async with calling(streaming) as http:
        visits, impressions = await http.get("/visits/tp-1"), await http.get("/impressions")

    assert "application/jsonl" == visits.headers["content-type"]
    assert "content-length" not in visits.headers
    scans = [(scan.user_id, f"{scan.at:%Y-%m-%dT%H:%M:%SZ}") for scan in world.scans("tp-1")]
    rows = [json.loads(line) for line in visits.iter_lines()]
    assert [{"userId": user, "timestampUTC": time} for user, time in scans] == rows
    assert [world.impression(each) for each in world.impressions] == [*map(json.loads, impressions.iter_lines())]


async def test_a_walk_without_rows_is_an_empty_stream(streaming: FastAPI, world: World) -> None:
    world.add_touchpoint("tp-empty")

    async with calling(streaming) as http:
        response = await http.get("/visits/tp-empty")

    assert (200, b"") == (response.status_code, response.content)


async def test_the_first_pages_error_gets_a_status_of_its_own(streaming: FastAPI) -> None:
    async with calling(streaming) as http:
        response = await http.get("/visits/no-such")

    assert (404, "application/problem+json") == (response.status_code, response.headers["content-type"])


async def test_a_later_pages_error_cuts_the_stream_and_is_logged(
    streaming: FastAPI, fake: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fail(query={"offset": "100"}, status=400)

    async with running(streaming) as url, aiohttp.ClientSession() as http, http.get(f"{url}/visits/tp-1") as response:
        assert 200 == response.status
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()

    ours = [record.getMessage() for record in caplog.records if record.name == "distinct_async"]
    assert ["cut off a stream: BadRequestError (metrics.total_visits)"] == [each for each in ours if "stream" in each]
    assert [] == [record for record in caplog.records if record.exc_info or "\n" in record.getMessage()]


async def test_when_the_caller_goes_away_the_run_ends_though_a_slow_page_is_awaited(
    streaming: FastAPI, fake: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fail(query={"offset": "50"}, delay=60)
    fake.fail(query={"offset": "100"}, delay=60)
    async with running(streaming) as url, aiohttp.ClientSession() as http:
        response = await http.get(f"{url}/visits/tp-1")
        assert 50 == (await response.content.readany()).count(b"\n")
        await until(lambda: fake.in_flight == 2)
        assert {"JSONLResponse.stream_response", "StreamingResponse.listen_for_disconnect", "Run._fetch"} == {*tasks()}

        response.close()

        await until(lambda: (fake.in_flight, tasks()) == (0, []))

    assert [] == [record for record in caplog.records if record.levelno >= logging.ERROR]


class Server:
    """An ASGI server in a test's hands, of one request."""

    def __init__(self, app: FastAPI, path: str, spec: str) -> None:
        self.sent: list[Any] = []
        self.broken = False
        self.gone = asyncio.Event()
        self._asked = False
        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": spec}, "http_version": "1.1"}
        request = {"method": "GET", "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b""}
        self.call = asyncio.create_task(app({**scope, **request, "headers": []}, self.receive, self.send))

    async def receive(self) -> Any:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self.broken:
            raise ConnectionResetError
        self.sent.append(message)


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_under_either_spec_a_disconnect_ends_the_run_at_once(
    streaming: FastAPI, fake: FakeServer, spec: str
) -> None:
    fake.fail(query={"offset": "50"}, delay=60)
    server = Server(streaming, "/visits/tp-1", spec)
    await until(lambda: len(server.sent) == 2 and fake.in_flight == 1)

    server.gone.set()

    async with asyncio.timeout(SOON):
        await server.call
    assert [] == tasks()
    assert ["http.response.start", "http.response.body"] == [message["type"] for message in server.sent]
    await until(lambda: fake.in_flight == 0)


async def test_a_send_that_fails_ends_the_run_quietly(streaming: FastAPI, fake: FakeServer) -> None:
    fake.fail(query={"offset": "50"}, delay=0.2)
    fake.fail(query={"offset": "100"}, delay=60)
    server = Server(streaming, "/visits/tp-1", "2.4")
    await until(lambda: len(server.sent) == 2)

    server.broken = True

    async with asyncio.timeout(SOON):
        await server.call
    await until(lambda: fake.in_flight == 0)


async def test_a_timeout_of_the_walk_is_not_taken_for_a_caller_who_went_away(
    streaming: FastAPI, fake: FakeServer
) -> None:
    fake.fail(query={"offset": "50"}, delay=60)
    async with calling(streaming) as http:
        with pytest.raises(RuntimeError) as caught:
            await http.get("/visits/tp-1?prefetch=1")

    assert isinstance(caught.value.__cause__, errors.RequestTimeoutError)


async def test_a_server_that_stops_ends_the_run_too(streaming: FastAPI, fake: FakeServer) -> None:
    fake.fail(query={"offset": "50"}, delay=60)
    server = Server(streaming, "/visits/tp-1", "2.4")
    await until(lambda: fake.in_flight == 1)

    server.call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await server.call
    await until(lambda: fake.in_flight == 0)


async def test_background_tasks_run_after_the_stream(app: FastAPI) -> None:
    done: list[str] = []

    @app.get("/")
    async def show(request: Request, client: DistinctDep, background: BackgroundTasks) -> Response:
        background.add_task(done.append, "done")
        return jsonl_response(client.metrics.total_visits("tp-1", limit=1), request)

    async with calling(app) as http:
        await http.get("/")

    assert ["done"] == done


# --- errors -----------------------------------------------------------------------------------------------------------

RAISED: list[tuple[int, errors.DistinctError]] = [
    (422, errors.InvalidRequestError("page_size must be at least 1, got 0")),
    (422, errors.CheckpointError("not a checkpoint of this version")),
    (404, errors.NotFoundError("Experience not found", status=404)),
    (503, errors.RateLimitError("slow down", status=429)),
    (503, errors.ServerError("closed for today", status=503)),
    (504, errors.RequestTimeoutError("too slow")),
    (500, errors.ConfigurationError("no API key for vantio")),
    (500, errors.AuthenticationError("bad api key", status=401)),
    (500, errors.PermissionDeniedError("this key may not", status=403)),
    (500, errors.ClientStateError("the client is closed")),
    (500, errors.StorageError("no space left on the disk")),
    (502, errors.DistinctError("x")),
    (502, errors.TransportError("x")),
    (502, errors.ConnectError("x")),
    (502, errors.TLSError("x")),
    (502, errors.ProtocolError("x")),
    (502, errors.APIError("x", status=418)),
    (502, errors.BadRequestError("x", status=400)),
    (502, errors.ServerError("x", status=500)),
    (502, errors.DecodeError("x")),
    (502, errors.PaginationError("x")),
    (502, errors.PageLoopError("x")),
    (502, errors.DriftError("x")),
]


def test_every_error_has_its_status_in_the_table() -> None:
    named = {name for name in errors.__all__ if name.endswith("Error")}
    assert named == {type(error).__name__ for _, error in RAISED}


@pytest.mark.parametrize(("status", "error"), RAISED, ids=repr)
async def test_an_error_is_a_problem_that_gives_nothing_away(
    app: FastAPI, status: int, error: errors.DistinctError, caplog: pytest.LogCaptureFixture
) -> None:
    error.operation = "metrics.user(experience_id='exp-secret')"

    @app.get("/")
    async def fail() -> None:
        raise error

    async with calling(app) as http:
        response = await http.get("/")

    problem = response.json()
    assert (status, "application/problem+json") == (response.status_code, response.headers["content-type"])
    assert ("about:blank", status) == (problem["type"], problem["status"])
    assert {"type", "title", "status", *(["detail"] if status != 500 else [])} == {*problem}
    assert (status == 422) == (error.message == problem.get("detail"))
    assert "key" not in response.text.lower()
    assert "secret" not in response.text + caplog.text
    logged = [record.getMessage() for record in caplog.records if record.name == "distinct_async"]
    expected = [f"responded with {status}: {type(error).__name__} (metrics.user)"]
    assert (expected if status >= 500 else []) == logged


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        ({"status": 429, "headers": {"Retry-After": "7"}}, 503, "7"),
        ({"status": 503, "headers": {"Retry-After": "3600"}}, 503, "3600"),
        ({"status": 503}, 503, None),
        ({"status": 500, "headers": {"Retry-After": "7"}}, 502, None),
        ({"status": 401}, 500, None),
        ({"status": 403}, 500, None),
        ({"status": 404}, 404, None),
        ({"status": 400}, 502, None),
        ({"wire": "reset"}, 502, None),
        ({"body": "{}"}, 502, None),
        ({"wire": "hang"}, 504, None),
    ],
    ids=str,
)
async def test_what_the_vendor_does_becomes_a_status_of_ours(
    fake: FakeServer, fault: dict[str, Any], status: int, retry_after: str | None
) -> None:
    fake.fail(**fault)
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/")
    async def show(client: DistinctDep) -> models.ExperienceMetrics:
        return await client.metrics.experience("exp-1")

    async with client_of(fake, timeout=0.5) as client, calling(app) as http:
        app.dependency_overrides[get_client] = lambda: client
        response = await http.get("/")

    assert (status, retry_after) == (response.status_code, response.headers.get("retry-after"))
    assert fake.api_key not in response.text


async def test_a_fraction_of_a_second_is_not_rounded_down(app: FastAPI) -> None:
    @app.get("/")
    async def fail() -> None:
        raise errors.RateLimitError(status=429, retry_after=0.2)

    async with calling(app) as http:
        assert "1" == (await http.get("/")).headers["retry-after"]


async def test_a_missing_key_is_logged_and_not_shown_to_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI(lifespan=lifespan())
    add_error_handlers(app)

    @app.get("/")
    async def show(client: DistinctDep) -> models.Impression:
        return await client.impressions.get("imp_000001")

    async with app.router.lifespan_context(app), calling(app) as http:
        response = await http.get("/")

    assert {"type": "about:blank", "title": "Internal Server Error", "status": 500} == response.json()
    assert "VANTIO_API_KEY" in caplog.text


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1008, errors.NotFoundError(status=404)),
        (1008, errors.InvalidRequestError()),
        (1013, errors.RateLimitError(status=429)),
        (1011, errors.AuthenticationError(status=401)),
        (1011, errors.DecodeError()),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_accepted_websocket_is_closed_with_a_code_to_match(code: int, error: errors.DistinctError) -> None:
    app = FastAPI()
    add_error_handlers(app)

    @app.websocket("/")
    async def fail(websocket: WebSocket) -> None:
        await websocket.accept()
        raise error

    async with running(app) as url, aiohttp.ClientSession() as http, http.ws_connect(url) as websocket:
        closing = await websocket.receive()

    assert (aiohttp.WSMsgType.CLOSE, code) == (closing.type, closing.data)


async def test_a_websocket_that_was_not_accepted_is_denied_with_the_problem() -> None:
    app = FastAPI()
    add_error_handlers(app)

    @app.websocket("/")
    async def fail() -> None:
        raise errors.RateLimitError(status=429, retry_after=3)

    async with running(app) as url, aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(url)

    assert caught.value.headers is not None
    assert (503, "3") == (caught.value.status, caught.value.headers["retry-after"])


# --- the schema -------------------------------------------------------------------------------------------------------


async def test_openapi_knows_the_rows_of_a_stream_and_every_problem() -> None:
    app = FastAPI(responses=PROBLEMS)

    @app.get("/visits/{touchpoint_id}", response_class=JSONLResponse, response_model=models.Visit)
    async def visits(touchpoint_id: str, request: Request, client: DistinctDep) -> Response:
        return jsonl_response(client.metrics.total_visits(touchpoint_id), request)

    async with calling(app) as http:
        document = (await http.get("/openapi.json")).json()

    responses = document["paths"]["/visits/{touchpoint_id}"]["get"]["responses"]
    assert {"application/jsonl": {"schema": {"$ref": "#/components/schemas/Visit"}}} == responses["200"]["content"]
    assert ["userId", "timestampUTC"] == [*document["components"]["schemas"]["Visit"]["properties"]]
    assert {"200", "404", "422", "500", "502", "503", "504"} == {*responses}
    assert "HTTPValidationError" not in json.dumps(document)


async def test_a_route_documented_as_a_stream_is_one(app: FastAPI, world: World) -> None:
    @app.get("/", response_class=JSONLResponse, response_model=models.Visit)
    async def visits(request: Request, client: DistinctDep) -> Response:
        return jsonl_response(client.metrics.total_visits("tp-1"), request)

    async with calling(app) as http:
        response = await http.get("/")

    assert "application/jsonl" == response.headers["content-type"]
    assert len(world.scans("tp-1")) == len(response.text.splitlines())


@pytest.mark.parametrize(("status", "error"), RAISED, ids=repr)
async def test_every_problem_is_as_documented(app: FastAPI, status: int, error: errors.DistinctError) -> None:
    @app.get("/")
    async def fail() -> None:
        raise error

    async with calling(app) as http:
        response = await http.get("/")

    media = PROBLEMS[status]["content"][response.headers["content-type"]]
    jsonschema_rs.validate(media["schema"], response.json())
    jsonschema_rs.validate(media["schema"], media["example"])
    assert {*response.json()} == {*media["schema"]["properties"]}


async def test_a_request_that_fastapi_refuses_is_documented_beside_the_problem(app: FastAPI) -> None:
    @app.get("/")
    async def show(number: int) -> int:
        return number

    async with calling(app) as http:
        response = await http.get("/?number=x")

    jsonschema_rs.validate(PROBLEMS[422]["content"][response.headers["content-type"]]["schema"], response.json())


# --- the module -------------------------------------------------------------------------------------------------------


def test_what_is_public_is_listed_sorted_and_documented() -> None:
    public = distinct_async.fastapi.__all__
    assert sorted(public) == public
    assert [] == [name for name in public if not getattr(distinct_async.fastapi, name).__doc__]
