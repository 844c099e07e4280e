"""Typed events: how they are declared, encoded, checked, compared and known by name.

General layout, from the ground up:

- `codec`: the two encodings; `instants`: finding datetimes without a timezone;
  `annotations`: field types with the rule on timezones written into them;
  `suggestions`: what a misspelt name may have meant.
- `policy`: the keywords of the class statement; `fields`: one field, and what is wrong with a
  value; `declaration`: the checks of a class statement.
- `sealing`: encode, hold to the budget, copy (the hot path); `documents`: events as JSON objects.
- `canonical`, `schema`: what services tell each other about their types, and whether it fits.
- `lineage`, `envelope`: what travels around an event, and where it came from.
- `spec`: all of the above for one type; `metaclass`, `event`: the base class; `catalog`: the
  types a node knows.
"""

from __future__ import annotations

from thence.events.catalog import Catalog
from thence.events.event import Event, spec_of
from thence.events.policy import PRIORITIES
from thence.events.schema import FieldSchema, Schema, incompatibility
from thence.events.spec import EventSpec

__all__ = [
    "PRIORITIES",
    "Catalog",
    "Event",
    "EventSpec",
    "FieldSchema",
    "Schema",
    "incompatibility",
    "spec_of",
]
