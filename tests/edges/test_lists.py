from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from wanasync.edges.journal import Journal
from wanasync.edges.lists import RequestList
from wanasync.errors import ListError
from wanasync.models import BatchItem, VideoRequest
from wanasync.rules.records import PlannedItem


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def prompts(path: str | Path, form: str | None = None) -> list[str]:
    with RequestList(path, format=form) as requests:
        assert requests.check() == len(list(requests))
        return [item.request.prompt for item in requests]


class TestOpening:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("list.txt", "a\nb\n"),
            ("LIST.TXT", "a\r\nb\r\n"),
            ("mac.txt", "a\rb\r"),
            ("list.csv", "prompt\na\nb\n"),
            ("list.tsv", "prompt\tquality\na\t\nb\t\n"),
            ("list.jsonl", '"a"\n"b"'),
            ("list.ndjson", '"a"\n{"prompt": "b"}\n'),
            ("list.json", '["a", "b"]'),
        ],
    )
    def test_knows_each_kind_by_its_name(self, tmp_path: Path, name: str, content: str) -> None:
        assert prompts(write(tmp_path / name, content)) == ["a", "b"]

    def test_takes_the_format_that_is_given(self, tmp_path: Path) -> None:
        assert prompts(write(tmp_path / "list.dat", "prompt\na\n"), "csv") == ["a"]
        assert prompts(write(tmp_path / "list.csv", "prompt\na\n"), "txt") == ["prompt", "a"]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
    @pytest.mark.parametrize(
        ("name", "content"),
        [("x.txt", "猫\r\nçat\r\n"), ("x.csv", "prompt\r\n猫\r\nçat\r\n"), ("x.json", '["猫",\n"çat"]')],
    )
    def test_reads_the_encodings_that_say_what_they_are(
        self, tmp_path: Path, encoding: str, name: str, content: str
    ) -> None:
        assert prompts(write(tmp_path / name, content.encode(encoding))) == ["猫", "çat"]

    @pytest.mark.parametrize("mark", [b"\xfe\xff", b"\xff\xfe"])
    def test_reads_utf16_in_both_byte_orders(self, tmp_path: Path, mark: bytes) -> None:
        text = "猫\n".encode("utf-16-be" if mark == b"\xfe\xff" else "utf-16-le")
        assert prompts(write(tmp_path / "x.txt", mark + text)) == ["猫"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("missing.txt", "there is no such file"),
            ("folder.txt", "is a directory, not a list"),
            ("video.mp4", "can't tell what kind of list this is"),
            ("bad\0name.txt", "can't be read"),
        ],
    )
    def test_says_why_it_cannot_be_opened(self, tmp_path: Path, name: str, message: str) -> None:
        (tmp_path / "folder.txt").mkdir()
        with pytest.raises(ListError, match=message):
            RequestList(tmp_path / name)

    def test_refuses_an_unknown_format(self, tmp_path: Path) -> None:
        with pytest.raises(ListError, match=r"'xml' is not a kind of list \(there are txt, csv, jsonl, json\)"):
            RequestList(write(tmp_path / "x.txt", "a"), format="xml")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
    def test_reads_a_pipe_twice(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe.txt"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_text, args=("a\nb\n",))
        writer.start()
        assert prompts(pipe) == ["a", "b"]
        writer.join()

    def test_reads_stdin_twice(self) -> None:
        script = (
            "from wanasync.edges.lists import RequestList\n"
            "with RequestList('-', format='csv') as requests:\n"
            "    print(requests.name, requests.check(), [item.request.prompt for item in requests])"
        )
        done = subprocess.run([sys.executable, "-c", script], input=b"prompt\na\nb\n", capture_output=True, check=True)
        assert done.stdout.decode().strip() == "stdin 2 ['a', 'b']"

    def test_stdin_is_plain_text_unless_told_otherwise(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\n# no\n")))
        assert prompts("-") == ["a"]


class TestReading:
    def test_gives_items_with_defaults(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.csv", "prompt,quality,id,file\na,480p,1,x.mp4\nb,,,\n")
        with RequestList(path, defaults={"quality": "1080p"}) as requests:
            assert list(requests) == [
                BatchItem(VideoRequest("a", quality="480p"), id="1", file="x.mp4"),
                BatchItem(VideoRequest("b", quality="1080p")),
            ]

    def test_a_pass_that_was_broken_off_does_not_disturb_the_next(self, tmp_path: Path) -> None:
        with RequestList(write(tmp_path / "x.txt", "a\nb\nc\n")) as requests:
            assert next(iter(requests)).request.prompt == "a"
            assert [item.request.prompt for item in requests] == ["a", "b", "c"]

    def test_a_list_that_turned_bad_since_raises_where_it_is_bad(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.jsonl", '"a"\n"b"\n')
        with RequestList(path) as requests:
            requests.check()
            write(path, '"a"\n5\n')
            items = iter(requests)
            assert next(items).request.prompt == "a"
            with pytest.raises(ListError, match=r"x\.jsonl: line 2: must be an object"):
                next(items)

    def test_a_file_that_was_replaced_is_read_as_it_was(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.txt", "a\n")
        with RequestList(path) as requests:
            requests.check()
            write(tmp_path / "new", "other\n").replace(path)
            assert [item.request.prompt for item in requests] == ["a"]

    def test_memory_does_not_grow_with_the_list(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("prompt,id\n")
            file.writelines(f"a cat that is number {number},id-{number}\n" for number in range(20_000))
        with RequestList(path) as requests:
            tracemalloc.start()
            try:
                requests.check()
                assert sum(1 for _ in requests) == 20_000
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        # 20,000 requests as objects are above 5 MB, the ids alone 1.5 MB.
        assert peak < 2_500_000


class TestCheck:
    def test_tells_how_many_items_there_are(self, tmp_path: Path) -> None:
        with RequestList(write(tmp_path / "x.txt", "a\n\n# c\nb\n")) as requests:
            assert requests.check() == 2

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("x.txt", ""),
            ("x.txt", "# only\n\n"),
            ("x.csv", ""),
            ("x.csv", "prompt\n"),
            ("x.jsonl", "\n"),
            ("x.json", "[]"),
        ],
    )
    def test_a_list_without_items_is_an_error(self, tmp_path: Path, name: str, content: str) -> None:
        with (
            RequestList(write(tmp_path / name, content)) as requests,
            pytest.raises(ListError, match="the list is empty"),
        ):
            requests.check()

    def test_tells_all_problems_of_all_lines(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.csv", "prompt,quality,id\na,4k,1\nb,720p,1\nc,720p,1\n,9k,2\n")
        with RequestList(path) as requests, pytest.raises(ListError) as caught:
            requests.check()
        assert str(caught.value) == f"{path}: 3 lines can't be used"
        assert [str(problem) for problem in caught.value.problems] == [
            'line 2, quality: "4k" is not a quality of this model (480p, 720p, 1080p)',
            'line 4, id: "1" stands on line 3 too',
            "line 5, prompt: is missing",
            'line 5, quality: "9k" is not a quality of this model (480p, 720p, 1080p)',
        ]
        assert caught.value.count == 4

    def test_keeps_the_first_problems_and_the_count_of_all(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.jsonl", "5\n" * 1000)
        with RequestList(path) as requests, pytest.raises(ListError, match="1,000 lines") as caught:
            requests.check(shown=20)
        assert [problem.line for problem in caught.value.problems] == list(range(1, 21))
        assert caught.value.count == 1000

    def test_finds_files_that_are_made_for_others(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.csv", "prompt,file\na,0002-b.mp4\nb,\n")
        with RequestList(path) as requests, pytest.raises(ListError) as caught:
            requests.check()
        assert [problem.line for problem in caught.value.problems] == [2]

    def test_a_video_given_for_a_list_is_told_in_one_line(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.mp4", b"\0\0\0 ftypisom" + bytes(range(256)) * 10_000)
        with RequestList(path, format="txt") as requests, pytest.raises(ListError) as caught:
            requests.check()
        assert len(caught.value.problems) <= 20
        assert all(str(problem).isprintable() for problem in caught.value.problems)


def fingerprint(path: Path, **options: Any) -> str:
    with RequestList(path, **options) as requests:
        return requests.fingerprint()


class TestFingerprint:
    def test_is_the_same_for_the_same_list(self, tmp_path: Path) -> None:
        one, other = write(tmp_path / "x.txt", "a\nb\n"), write(tmp_path / "y.txt", "a\nb\n")
        assert fingerprint(one) == fingerprint(other)

    def test_is_another_for_all_that_makes_other_requests(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.txt", "prompt\nb\n")
        variants = [
            fingerprint(path),
            fingerprint(path, format="csv"),
            fingerprint(path, defaults={"quality": "1080p"}),
            fingerprint(path, defaults={"duration": 5}),
            fingerprint(write(tmp_path / "y.txt", "prompt\nb")),
        ]
        assert len(set(variants)) == len(variants)

    def test_leaves_the_list_to_be_read(self, tmp_path: Path) -> None:
        with RequestList(write(tmp_path / "x.txt", "a\nb\n")) as requests:
            first = requests.fingerprint()
            assert requests.check() == 2
            assert [item.request.prompt for item in requests] == ["a", "b"]
            assert requests.fingerprint() == first


class TestFilesInTheWay:
    """With the directory of the videos, `check` also looks at what lies there."""

    LIST = "prompt,file\na,mine\nb,clips/yours.mp4\nc,\n"

    def check(self, tmp_path: Path) -> int:
        with RequestList(write(tmp_path / "list.csv", self.LIST)) as requests:
            return requests.check(to=tmp_path / "videos")

    def test_a_new_directory_has_none(self, tmp_path: Path) -> None:
        assert self.check(tmp_path) == 3
        (tmp_path / "videos").mkdir()
        assert self.check(tmp_path) == 3

    def test_a_strangers_file_is_named_with_the_line_that_wants_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "videos" / "clips").mkdir(parents=True)
        (tmp_path / "videos" / "clips" / "yours.mp4").touch()
        with pytest.raises(ListError) as caught:
            self.check(tmp_path)
        (problem,) = caught.value.problems
        assert (problem.line, problem.field) == (3, "file")
        assert "clips/yours.mp4" in problem.reason

    def test_what_the_batch_has_saved_is_in_nobodys_way(self, tmp_path: Path) -> None:
        async def plan() -> None:
            async with await Journal.open(tmp_path / "videos", now=time.time) as journal:
                await journal.plan([PlannedItem(0, VideoRequest("a"), None, "mine")])

        asyncio.run(plan())
        (tmp_path / "videos" / "mine.mp4").touch()
        assert self.check(tmp_path) == 3
        (tmp_path / "videos" / "clips").mkdir()
        (tmp_path / "videos" / "clips" / "yours.mp4").touch()
        with pytest.raises(ListError):
            self.check(tmp_path)

    def test_a_broken_journal_is_left_to_the_run_to_tell_of(self, tmp_path: Path) -> None:
        write_below = tmp_path / "videos" / ".wanasync"
        write_below.mkdir(parents=True)
        (write_below / "journal.db").write_bytes(b"no database at all")
        (tmp_path / "videos" / "mine.mp4").touch()
        assert self.check(tmp_path) == 3


class TestTakenForPrompts:
    @pytest.mark.parametrize(
        ("content", "form"),
        [
            ('{"prompt": "a cat"}\n', "jsonl"),
            ('# mine\n\n{"prompt": "a cat"}\n', "jsonl"),
            ('[{"prompt": "a cat"}]', "json"),
            ("[\n", "json"),
            ("prompt,quality\na cat,720p\n", "csv"),
            ("\ufeffPrompt;quality\na cat;720p\n", "csv"),
        ],
    )
    def test_a_list_of_another_kind_is_not_bought_as_prompts(self, tmp_path: Path, content: str, form: str) -> None:
        path = write(tmp_path / "list.txt", content)
        with pytest.raises(ListError, match=f"begins like a .{form} list"):
            RequestList(path)
        assert prompts(path, "txt")

    @pytest.mark.parametrize("content", ["{a cat}", "[slow] a cat", "prompt, a cat is asked", "a cat, a dog"])
    def test_prompts_with_brackets_and_commas_are_prompts(self, tmp_path: Path, content: str) -> None:
        assert prompts(write(tmp_path / "list.txt", content)) == [content]

    def test_a_spreadsheet_is_told_how_to_be_saved(self, tmp_path: Path) -> None:
        with pytest.raises(ListError, match="save it as CSV"):
            RequestList(write(tmp_path / "list.xlsx", b"PK"))
