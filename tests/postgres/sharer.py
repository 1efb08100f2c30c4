"""One of several processes that send with the same key: runs a batch through the shared limit, then tells how it went.

`python -m tests.postgres.sharer DSN BASE_URL API_KEY DIRECTORY COUNT`
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from wanasync import Config, WanSession


async def main(dsn: str, base_url: str, api_key: str, directory: Path, count: int) -> None:
    prompts = [f"{directory.name} {number}" for number in range(count)]
    async with WanSession(config=Config(api_key=api_key, base_url=base_url), shared_limit=dsn) as wan:
        async with wan.batch(prompts, to=directory) as batch:
            states = Counter([outcome.state.value async for outcome in batch])
        gate = wan.statistics().gate
    print(json.dumps({"states": states, "refused": gate.refused, "requests": gate.requests, "per": gate.per}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5])))
