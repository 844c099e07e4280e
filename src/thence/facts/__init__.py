"""What can happen to an event: who is told of it at once, and what a node remembers of it."""

from thence.facts.observer import GuardedObserver, Observer
from thence.facts.ring import Ring

__all__ = ["GuardedObserver", "Observer", "Ring"]
