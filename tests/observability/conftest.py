from __future__ import annotations

from collections.abc import Iterator

import pytest

from thence.mesh import peers


@pytest.fixture
def fast_beat(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What happens once a second happens more often, so that tests wait less."""
    with monkeypatch.context() as patched:
        patched.setattr(peers, "BEAT", 0.05)
        yield
