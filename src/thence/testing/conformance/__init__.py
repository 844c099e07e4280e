"""What every implementation of a contract has to do, as tests that each of them runs.

A suite is a class without a fixture and without a plugin: subclass it in a test module under a name that
begins with ``Test``, say how to make one of yours, and pytest (or anything else that calls methods by their
names) runs it::

    class TestCarrierPigeons(WireConformance):
        @asynccontextmanager
        async def wires(self):
            yield Wires(make=PigeonWire, address=new_loft)

General layout:

* :mod:`thence.testing.conformance.wire`: streams of bytes, :class:`WireConformance`
* :mod:`thence.testing.conformance.discovery`: who is there, :class:`DiscoveryConformance`
* :mod:`thence.testing.conformance.waiting`: waiting for a condition, without sleeping for a fixed time
"""

from __future__ import annotations

from thence.testing.conformance.discovery import DiscoveryConformance, Views
from thence.testing.conformance.waiting import eventually
from thence.testing.conformance.wire import WireConformance, Wires

__all__ = ["DiscoveryConformance", "Views", "WireConformance", "Wires", "eventually"]
