"""Peers, links and frames; who is there, and how bytes get to them."""
