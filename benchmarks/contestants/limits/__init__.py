"""Limiters of 100 events a second, each on its library's memory storage."""
