"""Cascades as spans of OpenTelemetry, made afterwards out of what the flight recorder remembers.

- ``identifiers``: the ids of traces and spans, which any node makes out of the ids of events.
- ``recollection``: what the rings tell of some cascades, or of all.
- ``anomalies``: which cascades went wrong, or took long.
- ``spans``: the spans, handed to whatever tracer provider the program has set up.
- ``exporter``: one node's part: what is new is exported, or remembered until somebody asks for it.
- ``current``: what handlers see as the current span.

Only ``spans`` and ``current`` know the packages of OpenTelemetry, and nobody imports them before they are needed.
"""
