"""A treasure hunt on eight services: moves are noise, finds are cascades, claims are money.

``events.py`` is what the services share, ``world.py`` the map they play on; each service has a file of its own.
"""
