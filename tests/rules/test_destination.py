from __future__ import annotations

from pathlib import Path

import pytest

from wanasync import ConfigError, Destination


@pytest.mark.parametrize("to", ["videos", "videos/", Path("videos")])
def test_a_directory_holds_videos_and_journal(to: str | Path) -> None:
    destination = Destination.of(to)
    assert (destination.directory, destination.url) == (Path("videos"), None)
    assert str(destination) == "videos"


def test_a_file_url_is_a_directory() -> None:
    assert Destination.of("file:///tmp/my%20videos") == Destination(Path("/tmp/my videos"))  # noqa: S108
    with pytest.raises(ConfigError, match="three slashes"):
        Destination.of("file://tmp/videos")


def test_a_url_has_a_state_directory_of_its_own() -> None:
    one, two = Destination.of("s3://bucket/a/b/"), Destination.of("s3://bucket/a-b")
    assert one.url == "s3://bucket/a/b"
    assert one.directory.name.startswith(".wanasync-s3-bucket-a-b-")
    assert one.directory.parent == Path()
    assert one.directory != two.directory
    assert one == Destination.of("S3://bucket/a/b")
    assert Destination.of(one) is one
    assert str(one) == "s3://bucket/a/b"


def test_the_state_directory_can_be_chosen() -> None:
    assert Destination.of("gs://bucket/a", "state") == Destination(Path("state"), "gs://bucket/a")
    with pytest.raises(ConfigError, match="object stores"):
        Destination.of("videos", "state")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/a", "s3://"),
        ("https://bucket.example/a", "s3://"),
        ("s3://", "bucket/prefix"),
        ("s3://bucket//a", "each part"),
        ("s3://bucket/../a", "each part"),
        ("s3://bucket/a?x=1", "queries"),
        ("s3://bucket/a b", "spaces"),
        ("s3://key:secret@bucket/a", "keys do not belong"),
    ],
)
def test_what_is_no_place_is_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Destination.of(url)


@pytest.mark.parametrize(
    ("url", "place", "name"),
    [
        ("s3://bucket/a/cat.mp4", "s3://bucket/a", "cat.mp4"),
        ("s3://bucket/cat.mp4", "s3://bucket", "cat.mp4"),
        ("s3://bucket/a", "s3://bucket/a", "stem.mp4"),
        ("s3://bucket", "s3://bucket", "stem.mp4"),
        ("s3://cat.mp4", "s3://cat.mp4", "stem.mp4"),
    ],
)
def test_a_url_names_one_object_or_a_place_for_it(url: str, place: str, name: str) -> None:
    destination, found = Destination.of(url).file("stem")
    assert (destination.url, found) == (place, name)
