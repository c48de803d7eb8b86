"""A world is what was put into it, and the same world every time."""

import re
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from distinct_async.testing import Scan, World

MORNING = datetime(2024, 1, 1, 10, tzinfo=UTC)


def scanned(world: World, touchpoint_id: str = "tp-1") -> list[str]:
    return [scan.user_id for scan in world.scans(touchpoint_id)]


def everything(world: World) -> list[object]:
    scans = [(touchpoint_id, world.scans(touchpoint_id)) for touchpoint_id in world.touchpoints]
    return [scans, world.users, world.experiences, [world.impression(one) for one in world.impressions]]


# The sample.


def test_a_sample_has_the_requested_size() -> None:
    world = World.sample(touchpoints=10, scans=5_000, users=400, seed=3)
    assert ("exp-1",) == world.experiences
    assert tuple(f"tp-{number}" for number in range(1, 11)) == world.touchpoints
    assert 5_000 == sum(len(world.scans(one)) for one in world.touchpoints) == len(world.impressions)
    assert {f"user-{number}" for number in range(1, 401)} == set(world.users)


def test_the_same_seed_makes_the_same_world_and_another_seed_another() -> None:
    first, second, other = (World.sample(scans=500, users=40, seed=seed) for seed in (7, 7, 8))
    assert everything(first) == everything(second)
    assert everything(first) != everything(other)
    for world in (first, second):
        world.grow(20)
        world.shrink(5)
    assert everything(first) == everything(second)


def test_a_large_sample_is_created_quickly() -> None:
    began = time.process_time()
    World.sample(touchpoints=3, scans=100_000, users=9_000, seed=7)
    assert time.process_time() - began < 2  # a third of that on a slow machine


def test_times_ascend_and_evenings_are_busier_than_nights() -> None:
    world = World.sample(scans=5_000, users=400)
    times = [[scan.at for scan in world.scans(one)] for one in world.touchpoints]
    assert [sorted(one) for one in times] == times
    hours = Counter(at.hour for one in times for at in one)
    assert hours[19] > hours[12] > hours[8] > hours[3]
    impressions = [world.impression(one)["scanned_at"] for one in world.impressions]
    assert sorted(map(str, impressions)) == impressions


def test_the_first_touchpoint_is_the_busiest_and_some_users_come_much_more_often() -> None:
    world = World.sample(scans=6_000, users=400)
    busy = [len(world.scans(one)) for one in world.touchpoints]
    assert sorted(busy, reverse=True) == busy
    assert busy[0] > 2 * busy[2]
    visits = [int(user.removeprefix("user-")) for one in world.touchpoints for user in scanned(world, one)]
    assert sum(number <= 100 for number in visits) > 2 * sum(number > 300 for number in visits)


def test_weekends_are_busier_and_each_touchpoint_has_hours_of_its_own() -> None:
    world = World.sample(touchpoints=4, scans=20_000, users=900)
    days = Counter(scan.at.weekday() for one in world.touchpoints for scan in world.scans(one))
    assert min(days[5], days[6]) > max(days[one] for one in range(5))
    middle = {
        one: sorted(scan.at.hour for scan in world.scans(one))[len(world.scans(one)) // 2] for one in world.touchpoints
    }
    assert middle["tp-1"] < middle["tp-2"]
    # The fourth is elsewhere: its noon is five hours later in UTC
    assert 17 == Counter(scan.at.hour for scan in world.scans("tp-4") if 12 <= scan.at.hour < 19).most_common(1)[0][0]


def test_newcomers_arrive_on_many_days_and_come_back_soon() -> None:
    world = World.sample(scans=20_000, users=900)
    scans = sorted((scan.at.date(), scan.user_id) for one in world.touchpoints for scan in world.scans(one))
    first: dict[str, date] = {}
    for day, user in scans:
        first.setdefault(user, day)
    assert len(set(first.values())) > 10
    later = Counter((day - first[user]).days for day, user in scans)
    assert later[1] > later[4] > later[10] > 0


@pytest.mark.parametrize(("scans", "users"), [(0, 5), (3, 5), (5, 5)])
def test_a_sample_may_have_fewer_scans_than_users(scans: int, users: int) -> None:
    world = World.sample(touchpoints=1, scans=scans, users=users)
    assert scans == len(world.scans("tp-1")) == len(world.users)


def test_places_have_names_as_people_give_them() -> None:
    world = World.sample(touchpoints=9, scans=0)
    named = [(one.name, one.value) for one in map(world.touchpoint, world.touchpoints)]
    assert [("Entry Scan", "entry_scan"), ("Exit Scan", "exit_scan")] == named[:2]
    assert ("Booth 9", "booth_9") == named[8]


# Building by hand.


def test_an_empty_world_is_empty() -> None:
    world = World()
    assert () == world.experiences == world.touchpoints == world.users == world.impressions


def test_a_scan_brings_its_touchpoint_its_experience_and_its_user_along() -> None:
    world = World()
    scan = world.add_scan("tp-9", "user-1", MORNING)
    assert Scan("user-1", MORNING) == scan
    assert (("exp-1",), ("tp-9",), ("user-1",)) == (world.experiences, world.touchpoints, world.users)
    assert (scan,) == world.scans("tp-9")
    assert (scan.impression_id,) == world.impressions == ("imp_000001",)


def test_touchpoints_belong_to_the_experience_they_are_put_in() -> None:
    world = World()
    world.add_experience("empty")
    world.add_touchpoint("tp-1", "Entry Scan", "entry_scan", experience_id="exp-2")
    world.add_scan("tp-1", "user-1", MORNING)
    assert ("empty", "exp-2") == world.experiences
    touchpoint = world.touchpoint("tp-1")
    assert ("Entry Scan", "entry_scan", "exp-2") == (touchpoint.name, touchpoint.value, touchpoint.experience_id)
    with pytest.raises(ValueError, match="already exists"):
        world.add_touchpoint("tp-1")


@pytest.mark.parametrize(
    "at",
    [
        MORNING,
        MORNING.replace(tzinfo=None),
        MORNING.astimezone(timezone(timedelta(hours=5))),
        "2024-01-01T10:00:00Z",
        "2024-01-01T10:00:00",
        "2024-01-01T12:00:00.000000+02:00",
    ],
)
def test_a_time_may_be_given_in_many_ways(at: datetime | str) -> None:
    scan = World().add_scan("tp-1", "user-1", at)
    assert MORNING == scan.at
    assert UTC is scan.at.tzinfo


@pytest.mark.parametrize("at", ["noon", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_bad_time_changes_nothing(at: str) -> None:
    world = World()
    with pytest.raises(ValueError, match=re.escape(at)):
        world.add_scan("tp-1", "user-1", at)
    assert () == world.touchpoints == world.users == world.impressions


def test_lists_keep_the_order_in_which_they_were_made() -> None:
    world = World()
    for user, day in [("user-b", 3), ("user-a", 1), ("user-c", 2)]:
        world.add_scan("tp-1", user, MORNING.replace(day=day))
    assert ["user-b", "user-a", "user-c"] == scanned(world)
    world.insert("tp-1", 1, "user-d", MORNING)
    assert ["user-b", "user-d", "user-a", "user-c"] == scanned(world)
    assert ("imp_000001", "imp_000002", "imp_000003", "imp_000004") == world.impressions


def test_the_unique_scan_of_a_user_is_the_earliest() -> None:
    world = World()
    for user, day in [("user-1", 3), ("user-2", 2), ("user-1", 1), ("user-2", 4)]:
        world.add_scan("tp-1", user, MORNING.replace(day=day))
    expected = (Scan("user-1", MORNING), Scan("user-2", MORNING.replace(day=2)))
    assert expected == world.unique_scans("tp-1")
    world.remove("tp-1", 2)
    assert (Scan("user-1", MORNING.replace(day=3)), expected[1]) == world.unique_scans("tp-1")


def test_what_is_unknown_is_a_key_error() -> None:
    world = World()
    for look in (world.scans, world.unique_scans, world.touchpoint, world.impression, world.remove):
        with pytest.raises(KeyError):
            look("nowhere")


# Growing and shrinking.


def test_growing_appends_later_scans_to_one_touchpoint_or_to_all() -> None:
    world = World.sample(scans=300, users=40)
    before = {one: world.scans(one) for one in world.touchpoints}
    world.grow(10, "tp-2")
    assert before["tp-1"] == world.scans("tp-1")
    assert before["tp-2"] == world.scans("tp-2")[:-10]
    world.grow(60)
    for one, scans in before.items():
        times = [scan.at for scan in world.scans(one)]
        assert sorted(times) == times
        assert scans == world.scans(one)[: len(scans)] != world.scans(one)
    assert 40 < len(world.users) < 70
    assert 370 == len(world.impressions)


def test_an_empty_world_grows_too() -> None:
    world = World()
    world.grow(5)
    assert 5 == len(world.scans("tp-1"))
    assert "user-1" == world.scans("tp-1")[0].user_id
    world.grow(1, "tp-2")
    assert ("tp-1", "tp-2") == world.touchpoints


def test_shrinking_takes_the_last_scans_and_their_impressions() -> None:
    world = World.sample(scans=300, users=40)
    before = world.scans("tp-1")
    gone = [scan.impression_id for scan in before[-3:]]
    world.shrink(3, "tp-1")
    assert before[:-3] == world.scans("tp-1")
    assert 297 == len(world.impressions)
    for one in gone:
        with pytest.raises(KeyError):
            world.impression(one)
    latest = max((world.scans(one)[-1].at, one) for one in world.touchpoints)[1]
    count = len(world.scans(latest))
    world.shrink(1)
    assert count - 1 == len(world.scans(latest))
    world.shrink(1_000)
    assert () == world.impressions
    assert 40 == len(world.users)


# Impressions.


def test_an_impression_says_where_and_when_it_was_scanned() -> None:
    world = World()
    world.add_touchpoint("tp-1", "Entry Scan", "entry_scan", experience_id="exp-2")
    scan = world.add_scan("tp-1", "user-1", "2024-01-15T10:30:00Z")
    impression = world.impression(scan.impression_id)
    expected = {"id": "imp_000001", "poster_id": "poster_tp-1", "program_id": "prog_exp-2", "student_id": "user_tp-1"}
    assert expected == {name: impression[name] for name in expected}
    assert "2024-01-15T10:30:00Z" == impression["scanned_at"]
    assert {"device_type": "mobile", "location": "entry_scan", "referrer": "direct"} == impression["metadata"]


def test_impressions_differ_in_device_and_some_have_no_address() -> None:
    world = World.sample(scans=50, users=10)
    impressions = [world.impression(one) for one in world.impressions]
    devices = Counter(one["metadata"].get("device_type") for one in impressions)  # type: ignore[attr-defined]
    assert devices["mobile"] > 2 * (devices["tablet"] + devices["desktop"]) > 0
    assert 1 <= sum("WhatsApp" in str(one["user_agent"]) for one in impressions) < 5
    assert 5 == sum(one["ip_address"] is None for one in impressions)


def test_an_impression_can_be_put_there_verbatim() -> None:
    world = World()
    world.add_scan("tp-1", "user-1", MORNING)
    world.add_impression("imp_123abc", scanned_at="half past ten", metadata={"custom": [1, None]})
    world.add_scan("tp-1", "user-2", MORNING)
    assert ("imp_000001", "imp_123abc", "imp_000002") == world.impressions
    assert {
        "id": "imp_123abc",
        "poster_id": "poster_123abc",
        "program_id": "prog_123abc",
        "student_id": "user_123abc",
        "scanned_at": "half past ten",
        "user_agent": None,
        "ip_address": None,
        "metadata": {"custom": [1, None]},
    } == world.impression("imp_123abc")


def test_impressions_are_found_by_program_and_poster() -> None:
    world = World()
    world.add_touchpoint("tp-1", experience_id="exp-1")
    world.add_touchpoint("tp-2", experience_id="exp-2")
    for touchpoint_id in ("tp-1", "tp-2", "tp-1"):
        world.add_scan(touchpoint_id, "user-1", MORNING)
    assert ("imp_000001", "imp_000003") == world.find_impressions(poster_id="poster_tp-1")
    assert ("imp_000002",) == world.find_impressions(program_id="prog_exp-2")
    assert () == world.find_impressions(program_id="prog_exp-2", poster_id="poster_tp-1")
    world.add_scan("tp-1", "user-2", MORNING)
    assert ("imp_000001", "imp_000003", "imp_000004") == world.find_impressions(poster_id="poster_tp-1")
    world.add_impression("imp_x", poster_id="poster_tp-1")
    assert ("imp_000001", "imp_000003", "imp_000004", "imp_x") == world.find_impressions(poster_id="poster_tp-1")


# From a file.


def test_a_file_s_rows_are_what_the_builders_take() -> None:
    world = World.from_json("""{
        "experiences": ["exp-3"],
        "touchpoints": [{"id": "tp-1", "name": "Entry Scan", "value": "entry_scan", "experience_id": "exp-2"}],
        "scans": [
            {"touchpoint_id": "tp-1", "user_id": "user-1", "at": "2024-01-01T10:00:00+02:00"},
            {"touchpoint_id": "tp-2", "user_id": "user-2", "at": "2023-01-01T10:00:00Z"}
        ],
        "impressions": [{"id": "imp_1"}, {"id": "imp_2", "poster_id": "poster_9", "metadata": {"a": [1]}}]
    }""")

    by_hand = World()
    by_hand.add_experience("exp-3")
    by_hand.add_touchpoint("tp-1", "Entry Scan", "entry_scan", "exp-2")
    by_hand.add_scan("tp-1", "user-1", "2024-01-01T10:00:00+02:00")
    by_hand.add_scan("tp-2", "user-2", "2023-01-01T10:00:00Z")
    by_hand.add_impression("imp_1")
    by_hand.add_impression("imp_2", poster_id="poster_9", metadata={"a": [1]})
    assert everything(by_hand) == everything(world)
    assert by_hand.touchpoint("tp-1").name == world.touchpoint("tp-1").name
    assert "2024-01-01T10:00:00+02:00" == world.impression("imp_000001")["scanned_at"]


def test_an_empty_file_is_an_empty_world() -> None:
    assert everything(World()) == everything(World.from_json(b"{}"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('{"scans": [{"touchpoint_id": "tp-1", "user_id": "user-1", "at": "noon"}]}', r"noon.*`\$\.scans\[0\]`"),
        ('{"scans": [{"touchpoint_id": "tp-1", "user_id": "user-1"}]}', r"`at`.*`\$\.scans\[0\]`"),
        ('{"scans": [{"touchpoint_id": "a", "user_id": "b", "at": "2024-01-01", "x": 1}]}', r"`x`.*`\$\.scans\[0\]`"),
        ('{"touchpoints": [{"id": "tp-1"}, {"id": "tp-1"}]}', r"already exists.*`\$\.touchpoints\[1\]`"),
        ('{"touchpoints": [{"touchpoint_id": "tp-1"}]}', r"`\$\.touchpoints\[0\]`"),
        ('{"impressions": [{"id": 1}]}', r"`\$\.impressions\[0\]\.id`"),
        ('{"impressions": [{"id": "a", "poster": "b"}]}', r"poster.*`\$\.impressions\[0\]`"),
        ('{"visits": []}', "visits"),
        ("[]", "object"),
        ("{", "truncated"),
    ],
)
def test_an_invalid_file_is_rejected_with_the_location(data: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        World.from_json(data)
