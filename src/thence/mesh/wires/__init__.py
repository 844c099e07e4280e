"""Bytes to a peer: the contract, sockets, one process."""
