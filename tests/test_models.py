"""`models.to_dict`: every model as a dict that JSON can hold, under either kind of names."""

import json
from typing import Any

import pytest

from distinct_async import DistinctClient, models

from .rig import served
from .test_samples import EXPERIENCE, IMPRESSION, READ, TOTAL, USER, Call, sample
from .wire.responses import whole

VISIT = {"user_id": "user-1", "timestamp_utc": "2024-01-01T10:00:00Z"}
WIRE_VISIT = {"userId": "user-1", "timestampUTC": "2024-01-01T10:00:00Z"}


def test_the_names_are_those_of_the_fields_or_with_wire_the_vendors() -> None:
    assert VISIT == models.to_dict(TOTAL.visits[0])
    assert WIRE_VISIT == models.to_dict(TOTAL.visits[0], wire=True)


@pytest.mark.parametrize("name", ["experience", "user", "impression"])
async def test_with_wire_names_it_is_what_the_vendor_sent(name: str) -> None:
    sent = json.loads(sample(name))
    call: Call = READ[name][0]
    async with served(whole(sample(name))) as (client, _):
        received: Any = await call(client)

    assert sent.get("data", sent) == models.to_dict(received, wire=True)


@pytest.mark.parametrize("value", [EXPERIENCE, USER, TOTAL, IMPRESSION], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("wire", [False, True])
def test_json_holds_all_of_it(value: Any, wire: Any) -> None:
    plain = models.to_dict(value, wire)
    assert plain == json.loads(json.dumps(plain))


def test_fractions_of_a_second_stay() -> None:
    visit = models.Visit("user-1", TOTAL.visits[0].timestamp_utc.replace(microsecond=250_000))
    assert "2024-01-01T10:00:00.250000Z" == models.to_dict(visit)["timestamp_utc"]


def test_who_changes_the_dict_does_not_change_the_model() -> None:
    models.to_dict(IMPRESSION)["metadata"].clear()
    assert "mobile" == IMPRESSION.metadata["device_type"]


@pytest.mark.parametrize("value", [None, {}, [TOTAL], models.Visit])
def test_what_is_no_model_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"value must be a model of distinct_async\.models, got "):
        models.to_dict(value)


async def test_a_list_of_them_is_what_a_data_frame_takes(client: DistinctClient) -> None:
    rows = [models.to_dict(visit) async for visit in client.metrics.total_visits("tp-1")]
    assert {("user_id", "timestamp_utc")} == {tuple(row) for row in rows}
