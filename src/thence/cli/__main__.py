"""``python -m thence.cli`` is ``thence``."""

from thence.cli import main

main()
