"""What version 0.1.0 wrote is read: checkpoints, and what the command left of an interrupted walk."""

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from distinct_async import Checkpoint, DistinctClient
from distinct_async.errors import DriftError
from distinct_async.testing import FakeServer, World
from tests.cli.command import installed, piped
from tests.written import grown_world, rearranged_world, written


@pytest.fixture
def world() -> World:
    return grown_world()


def checkpoint(folder: Path, name: str) -> Checkpoint:
    return Checkpoint.from_json((folder / f"{name}.checkpoint.json").read_text(encoding="utf-8"))


async def test_walks_go_on_from_checkpoints_of_0_1_0(client: DistinctClient, world: World, tmp_path: Path) -> None:
    written(tmp_path)
    total = client.metrics.total_visits("tp-1").resume(checkpoint(tmp_path, "total_visits"))
    assert [scan.user_id for scan in world.scans("tp-1")[20:]] == [visit.user_id async for visit in total]
    unique = client.metrics.unique_visits("tp-1", experience_id="exp-1").resume(checkpoint(tmp_path, "unique_visits"))
    assert [scan.user_id for scan in world.unique_scans("tp-1")[20:]] == [visit.user_id async for visit in unique]


async def test_impressions_go_on_from_a_checkpoint_of_0_1_0(tmp_path: Path) -> None:
    written(tmp_path)
    content: Any = json.loads((tmp_path / "world.json").read_bytes())
    content["scans"] = [scan for scan in content["scans"] if scan["touchpoint_id"] == "tp-1"]  # as they were made
    world = World.from_json(json.dumps(content))
    async with (
        FakeServer(world) as fake,
        DistinctClient(vantio_api_key=fake.vantio_api_key, vantio_base_url=fake.url) as client,
    ):
        walk = client.impressions.list(program_id="prog_exp-1").resume(checkpoint(tmp_path, "impressions"))
        assert list(world.impressions[20:]) == [impression.id async for impression in walk]


async def test_checkpoints_of_0_1_0_still_notice_drift(tmp_path: Path) -> None:
    written(tmp_path)
    async with FakeServer(rearranged_world()) as fake, DistinctClient(fake.api_key, base_url=fake.url) as client:
        with pytest.raises(DriftError):
            await client.metrics.total_visits("tp-1").resume(checkpoint(tmp_path, "total_visits")).collect()


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
async def test_the_command_goes_on_from_files_of_0_1_0(
    fake: FakeServer, world: World, tmp_path: Path, suffix: str
) -> None:
    written(tmp_path)
    target = tmp_path / f"walk.{suffix}"
    ended = await asyncio.to_thread(
        piped,
        installed(),
        *("visits", "tp-1", "-o", str(target), "--checkpoint", str(tmp_path / f"walk.{suffix}.checkpoint")),
        DISTINCT_API_KEY=fake.api_key,
        DISTINCT_BASE_URL=fake.url,
    )
    assert 0 == ended.returncode, ended.stderr
    text = target.read_text(encoding="utf-8")
    rows: list[Any] = (
        [json.loads(line) for line in text.splitlines()]
        if suffix == "jsonl"
        else list(csv.DictReader(text.splitlines()))
    )
    assert [scan.user_id for scan in world.scans("tp-1")] == [row["user_id"] for row in rows]
