"""How much work is let in: limits, shedding, and who shares what. Pure policies: they are told the time."""
