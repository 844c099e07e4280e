"""For tests of services, and of Thence itself: whole meshes, virtual time, contexts, conformance suites.

- :class:`Mesh`: services with all that follows from an event, as a :class:`Cascade` to ask and to print.
- :func:`in_virtual_time`, :func:`run`, :class:`VirtualTimeLoop`: time that jumps.
- :func:`context`: what a handler gets as ``ctx``.
- :class:`MemoryMesh`: faults for nodes of ``mesh="memory:NAME"``: killed, stopped, cut off, slow.
- :mod:`thence.testing.conformance`: what every discovery and every wire must do.
"""

from thence.mesh.memory import MemoryMesh
from thence.testing.cascade import Cascade
from thence.testing.context import context
from thence.testing.mesh import Mesh
from thence.testing.occurrences import Occurrence, Outcome
from thence.testing.virtual_time import Deadlock, VirtualTimeLoop, in_virtual_time, run

__all__ = [
    "Cascade",
    "Deadlock",
    "MemoryMesh",
    "Mesh",
    "Occurrence",
    "Outcome",
    "VirtualTimeLoop",
    "context",
    "in_virtual_time",
    "run",
]
