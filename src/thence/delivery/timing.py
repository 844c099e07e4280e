"""How long handlers run that end where they were begun, for next to nothing.

Reading a clock twice for each of them would show. What comes alone is timed by what is noted for the recorder
anyway: when it was read, and when it had ended. Of what comes together, one in sixteen on average (in 256, where
it is much) is timed by itself, and stands for those of its handler that are not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, cycle
from typing import Any

from thence.delivery.accounts import Account
from thence.events.envelope import FAILED, Arrival, Source

__all__ = ["Timing"]

LEAST, MOST = 8, 24
"""From one event that is timed to the next. They differ, as events may come in a pattern."""
LONG = 64
"""Events in a batch, above which fewer are timed: one in 256 on average."""


class Timing:
    """Times the runs of one node's batches.

    :param now: the node's stopwatch.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._gap = cycle([random.randint(LEAST, MOST) for _ in range(251)]).__next__
        self._skip = 0
        """Events until the next one that is timed."""
        self._samples: list[tuple[Arrival, float, float]] = []
        """Delay, and what it took."""

    def sampled(self, source: Source, batch: Sequence[Arrival]) -> Iterator[Arrival]:
        """The arrivals of a batch, to be handled one after the other; some of them are timed."""
        skip = self._skip
        if skip >= len(batch):
            self._skip = skip - len(batch)
            return iter(batch)
        return chain.from_iterable(self._pieces(source, batch, skip))

    def _pieces(
        self, source: Source, batch: Sequence[Arrival], position: int
    ) -> Iterator[Sequence[Arrival]]:
        now, done, samples = self._now, 0, self._samples
        times = 16 if len(batch) > LONG else 1
        came = source.read_at or source.sent_at
        while position < len(batch):
            yield batch[done:position]
            done = position + 1
            began = now()
            yield batch[position:done]
            samples.append((batch[position], began - came, now() - began))
            position = done + times * self._gap() - 1
        self._skip = position - len(batch)
        yield batch[done:]

    def fold(self, batches: Iterable[tuple[float, float, Sequence[Arrival], Groups]]) -> None:
        """Count batches that have ended: when each was begun, when it had ended, and who ended well in it.

        An empty one says that what is next in the batch that follows went the long way, and is timed there.
        """
        touched: dict[Account, float] = {}
        ends: list[float] = []
        for began, ended, batch, groups in batches:
            if ends:
                ended = min(end for end in (*ends, ended) if end >= began)
                ends.clear()
            if len(batch) == 1:
                for subscription, _ in groups or _failed(batch):
                    account: Account = subscription.account
                    account.alone.append(ended - began)
                    touched[account] = 0.0
            elif batch:
                mean, left = (ended - began) / len(batch), len(batch)
                for subscription, arrivals in groups:
                    left -= len(arrivals)
                    subscription.account.together += len(arrivals)
                    touched[subscription.account] = mean
                for subscription, _ in _failed(batch) if left else ():
                    subscription.account.together += 1
                    touched[subscription.account] = mean
            else:
                ends.append(ended)
        samples, self._samples = self._samples, []
        for arrival, delay, took in samples:
            if arrival.noted is not True:
                arrival.subscription.account.sampled.append((delay, took))
        for account, mean in touched.items():
            if account.together:
                account.fold_together(mean)
            account.fold()


def _failed(batch: Sequence[Arrival]) -> Groups:
    """Those that have failed where they were begun."""
    return [(one.subscription, (one,)) for one in batch if one.noted == FAILED]


Groups = Iterable[tuple[Any, Sequence[Arrival]]]
"""Subscriptions, and those arrivals of a batch that went to each."""
