"""For tests of services, and of Thence itself: virtual time, contexts, the mesh in memory, conformance suites.

- :func:`run`, :class:`VirtualTimeLoop`: time that jumps.
- :func:`context`: what a handler gets as ``ctx``.
- :class:`MemoryMesh`: faults for nodes of ``mesh="memory:NAME"``: killed, stopped, cut off, slow.
- :mod:`thence.testing.conformance`: what every discovery and every wire must do.
"""

from thence.mesh.memory import MemoryMesh
from thence.testing.context import context
from thence.testing.virtual_time import Deadlock, VirtualTimeLoop, run

__all__ = ["Deadlock", "MemoryMesh", "VirtualTimeLoop", "context", "run"]
