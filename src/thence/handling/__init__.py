"""One handler: its declaration, its runs, its timeouts."""
