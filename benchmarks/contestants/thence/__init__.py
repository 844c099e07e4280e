"""Thence's adapters, written against its public surface alone, as a user would write them."""
