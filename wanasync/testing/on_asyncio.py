"""The stage as a fixture of pytest-asyncio: one for each scope that a test's loop may have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, TypeAlias

import pytest
import pytest_asyncio

from wanasync.testing.stage import Stage, stage_for

Scope: TypeAlias = Literal["session", "package", "module", "class", "function"]


def _fixture(scope: Scope) -> object:
    @pytest_asyncio.fixture(name=f"_wan_stage_on_{scope}_loop", loop_scope=scope)
    async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
        async with stage_for(request) as opened:
            yield opened

    return stage


on_session_loop: object = _fixture("session")
on_package_loop: object = _fixture("package")
on_module_loop: object = _fixture("module")
on_class_loop: object = _fixture("class")
on_function_loop: object = _fixture("function")
