"""The pytest plugin, as its users have it: small test files, run by pytest with this and that async plugin."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]

WITHOUT = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov")
SCOPE = "asyncio_default_fixture_loop_scope=function"

WHOLE = """
    from pathlib import Path
    from wanasync import OutcomeState, WanSession
    from wanasync.events import VideoSaved

    {mark}
    async def test_a_video(wan, wan_emulator, wan_events, tmp_path):
        video = await wan.generate("A cat", to=tmp_path / "cat.mp4")
        assert video.sha256 == wan_emulator.sha256(video.task_id)
        assert wan_events[VideoSaved][0].video == video

    {mark}
    async def test_code_that_makes_its_own_session(wan_emulator):
        async with WanSession() as wan:
            await wan.submit("A cat")
        assert len(wan_emulator.ledger.entries) == 1
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run a test file in this process, without the plugins that this very run is made with."""

    def run_file(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest_inprocess(*WITHOUT, "-o", SCOPE, *options)

    return run_file


def test_with_pytest_asyncio_in_auto_mode(run: Run) -> None:
    run(WHOLE.format(mark=""), "--asyncio-mode=auto").assert_outcomes(passed=2)


def test_with_pytest_asyncio_in_strict_mode(run: Run) -> None:
    run(WHOLE.format(mark="@__import__('pytest').mark.asyncio")).assert_outcomes(passed=2)


def test_with_loops_that_many_tests_share(run: Run) -> None:
    mark = "@__import__('pytest').mark.asyncio(loop_scope='module')"
    run(WHOLE.format(mark=mark)).assert_outcomes(passed=2)


def test_with_anyio(run: Run) -> None:
    text = (
        WHOLE.format(mark="@__import__('pytest').mark.anyio")
        + """
    import pytest

    @pytest.fixture
    def anyio_backend():
        return "asyncio"
"""
    )
    run(text, "-p", "no:asyncio").assert_outcomes(passed=2)


def test_in_virtual_time_without_any_async_plugin(run: Run) -> None:
    mark = "@__import__('pytest').mark.virtual_time"
    run(WHOLE.format(mark=mark), "-p", "no:asyncio", "-p", "no:anyio").assert_outcomes(passed=2)


def test_in_virtual_time_by_our_decorator(run: Run) -> None:
    text = "    from wanasync.testing import virtual_time\n" + WHOLE.format(mark="@virtual_time")
    run(text, "-p", "no:asyncio", "-p", "no:anyio").assert_outcomes(passed=2)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_virtual_time_beside_pytest_asyncio(run: Run, mode: str) -> None:
    """Marked by module, class or function; what is no test is left alone; ordinary tests stay with their plugin."""
    outcome = run(
        """
        import asyncio, time
        import pytest
        from wanasync.testing import START, VirtualTimeLoop, now

        pytestmark = pytest.mark.virtual_time

        async def helper():
            await asyncio.sleep(86_400)

        class TestHours:
            async def test_a_day(self, wan):
                assert asyncio.get_running_loop().time() < 2_000
                await helper()
                assert now() >= START + 86_400

        @pytest.fixture
        def service(wan):
            return wan, "a user's own fixture"

        @pytest.mark.parametrize("hours", [1, 2])
        async def test_with_a_fixture_of_their_own(service, hours, tmp_path):
            await asyncio.sleep(3600 * hours)
            await service[0].generate("A cat", to=tmp_path)

        def test_a_plain_one():
            pass
        """,
        f"--asyncio-mode={mode}",
    )
    outcome.assert_outcomes(passed=4)


def test_markers_set_emulator_and_session(run: Run) -> None:
    outcome = run(
        """
        import pytest
        from wanasync.emulator import FixedWindow

        pytestmark = [pytest.mark.virtual_time, pytest.mark.wan_emulator(credit=7.0, durations=33.0)]

        @pytest.mark.wan_emulator(credit=50.0, limiter=FixedWindow(1, per=60))
        @pytest.mark.wan_session(on_unknown="replay")
        async def test_options(wan, wan_emulator):
            assert (await wan.credits()).remaining == 50.0
            assert wan.config.on_unknown == "replay"
            assert wan_emulator.limiter is not None
            assert wan_emulator.durations.low == 33.0

        @pytest.mark.wan_emulator(5)
        async def test_no_keyword(wan):
            pass
        """
    )
    outcome.assert_outcomes(passed=1, errors=1)
    outcome.stdout.fnmatch_lines(["*wan_emulator takes keywords only*"])


def test_each_test_starts_afresh(run: Run) -> None:
    run(
        """
        import pytest

        @pytest.mark.virtual_time
        @pytest.mark.parametrize("turn", [1, 2, 3])
        async def test_alone(wan, wan_emulator, wan_events, turn):
            await wan.submit("A cat")
            assert len(wan_emulator.ledger.entries) == 1
            assert wan.statistics().gate.accepted == 1
        """
    ).assert_outcomes(passed=3)


def test_a_test_that_nobody_runs_is_told_how_to_be_run(run: Run) -> None:
    outcome = run("def test_plain(wan): pass\n\nasync def test_unmarked(wan): pass\n", "-p", "no:anyio")
    outcome.assert_outcomes(errors=2)
    outcome.stdout.fnmatch_lines(["*test_plain: wanasync's fixtures need an async test*"])


def test_what_a_test_leaves_behind_is_closed(run: Run) -> None:
    run(
        """
        import asyncio, pytest

        @pytest.mark.virtual_time
        async def test_leaves_a_task_behind(wan, tmp_path):
            asyncio.create_task(wan.generate("A cat", to=tmp_path))
            await asyncio.sleep(1)

        @pytest.mark.virtual_time
        async def test_fails(wan):
            raise ValueError("theirs")
        """,
        "-W",
        "error",
    ).assert_outcomes(passed=1, failed=1)


def test_the_plugin_is_there_by_installation() -> None:
    (found,) = entry_points(group="pytest11", name="wanasync")
    assert found.value == "wanasync.testing.plugin"


def test_the_plugin_brings_nothing_heavy_along() -> None:
    heavy = ("aiohttp", "wanasync.engine", "wanasync.emulator", "wanasync.testing.clocks", "cattrs", "attr")
    code = (
        "import pytest; before = set(sys.modules); import wanasync.testing.plugin; print(*(set(sys.modules) - before))"
    )
    shown = subprocess.run([sys.executable, "-c", f"import sys; {code}"], capture_output=True, text=True, check=True)
    assert not set(heavy) & set(shown.stdout.split())
    code = "import sys, pytest; pytest.main(['--version', '-q']); print('aiohttp' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[-1] == "False"


def test_the_example_of_the_readme(run: Run) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    section = readme.partition("## Watched and tested")[2].partition("\n## ")[0]
    examples = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert examples
    for example in examples:
        outcome = run(example, "-p", "no:asyncio", "-p", "no:anyio")
        outcome.assert_outcomes(passed=len(re.findall(r"^async def test_", example, re.MULTILINE)))
