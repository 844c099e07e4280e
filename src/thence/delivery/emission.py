"""From ``emit`` to the outlets: everything that one node emits.

Root emits wait for room; what a handler emits never waits, because handlers that wait for each other's
services would be a wait cycle. What finds no room is counted and named in the receipt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from thence.cascade.loops import Paths
from thence.delivery.consequences import ConsequenceEmits, undeclared
from thence.delivery.roots import RootEmits
from thence.delivery.routes import RouteTable
from thence.delivery.sending import Sender
from thence.delivery.throttle import Throttle
from thence.delivery.tracking import Tracker
from thence.facts import Observer, Ring
from thence.mesh.cork import Cork

__all__ = ["Emitter", "undeclared"]


class Emitter:
    """Everything that one node emits."""

    def __init__(
        self,
        node: str,
        table: RouteTable,
        cork: Cork,
        tracker: Tracker,
        paths: Paths,
        ring: Ring,
        roots: type[RootEmits] = RootEmits,
        consequences: type[ConsequenceEmits] = ConsequenceEmits,
    ) -> None:
        self.sender = Sender(node, table, cork, tracker, ring)
        self.throttle = Throttle(self.sender)
        self.roots = roots(self.sender, self.throttle)
        self.consequences = consequences(self.sender, self.throttle, paths)
        self.emit_root = self.roots.emit
        self.emit_joined = self.consequences.emit_joined
        self.emit_consequences = self.consequences.emit_consequences
        self.credits_of = self.consequences.credits_of

    @property
    def refused(self) -> Counter[tuple[str, str, str]]:
        """What was not sent: by event, service (empty if it was meant for nobody yet) and reason."""
        return self.sender.refused

    def note_moment(self) -> None:
        """What has been emitted so far has left."""
        self.sender.note_moment()

    def observe(self, observer: Observer | None) -> None:
        """Tell ``observer`` what is emitted from now on."""
        self.sender.observer = observer

    def tell_losses(self, lossy: Callable[[], None]) -> None:
        """Call ``lossy()`` whenever something was not sent."""
        self.sender.lossy = lossy

    def stop(self) -> None:
        """Keep nothing back any more, and send nothing more that was."""
        self.throttle.close()
