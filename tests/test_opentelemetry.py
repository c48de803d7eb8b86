"""OpenTelemetry's own instrumentation of aiohttp sees our requests, through `trace_configs`."""

from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from yarl import URL

from distinct_async import DistinctClient, RetryPolicy
from distinct_async.testing import FakeServer


def without_query(url: URL) -> str:
    return str(url.with_query(None))  # it holds user ids


async def test_each_attempt_is_a_span_without_key_or_user_id(fake: FakeServer) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    hooks = create_trace_config(url_filter=without_query, tracer_provider=provider)
    fake.fail(status=503, times=1)

    async with DistinctClient(
        fake.api_key, base_url=fake.url, trace_configs=[hooks], retry=RetryPolicy(base=0)
    ) as client:
        await client.metrics.user("user-1", experience_id="exp-1")

    spans = exporter.get_finished_spans()
    text = "".join(span.to_json() for span in spans)
    assert [503, 200] == [(span.attributes or {}).get("http.status_code") for span in spans]
    assert not {fake.api_key, "user-1"} & {word for word in (fake.api_key, "user-1") if word in text}
