"""The bytes that untyped contestants carry: what the typed ones encode, without any envelope."""

import msgspec

__all__ = ["CLUE", "LATITUDE", "LONGITUDE", "MOVED_BYTES", "PING_BYTES", "PLAYER"]

PLAYER = "player-17"
CLUE = 3
LATITUDE = 47.376887
LONGITUDE = 8.541694

PING_BYTES = msgspec.msgpack.encode((PLAYER, CLUE))
MOVED_BYTES = msgspec.msgpack.encode((PLAYER, LATITUDE, LONGITUDE))
