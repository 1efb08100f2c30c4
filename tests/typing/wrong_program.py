"""What a type checker must refuse: each line marked `wrong` and no other. Nobody runs it."""

from __future__ import annotations

from wanasync import Config, VideoRequest, WanSession


async def main() -> None:
    async with WanSession(api_key=7) as wan:  # wrong
        await wan.generate("A cat")  # wrong
        task = await wan.submit(["A cat", "A dog"])  # wrong
        video = await task.save("cat.mp4")
        video.path.reads_text()  # wrong
        VideoRequest("A cat", duration="5")  # wrong
        Config(max_downloads=None)  # wrong
        for _outcome in wan.batch(["A cat"], to="videos"):  # wrong
            pass
