"""Whose key it is and whose turn: pure decisions."""
