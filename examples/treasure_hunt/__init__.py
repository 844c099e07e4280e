"""A treasure hunt on nine services: moves are noise, finds are cascades, claims are money.

So each has the limits that suit it. Of a player's moves only the newest counts, and it leaves the player's
node 25 times a second at most. Hints are rationed per player, what players are told is rationed for the whole
fleet, and claims have no limit: they are never shed.

Two more services, ``curses.py`` and ``charms.py``, feed each other without end. They are there to be cut, with
``thence demo --curse`` alone.

One more, ``leagues.py``, fails on some players, and what is wrong lies three services before it. It is there for
``thence why`` to find, with ``thence demo --fault`` alone.

``events.py`` is what the services share, ``world.py`` the map they play on; each service has a file of its own.
"""
