"""From an emit to the outlets, and from an arrival to the end of its handlers."""
