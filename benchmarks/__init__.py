"""Benchmarks of Thence beside its peers; see ``README.md`` for the method.

General layout::

    __main__.py      the command line
    hop.py flow.py local.py emit_scale.py size.py idle.py
    limits.py overload.py stopped_peer.py    one benchmark a file
    contestants/     what runs inside the measured processes, one file a contestant
    worker.py        the measured process: serves one contestant
    processes.py     starts, asks and stops workers
    brokers.py       the peers' servers
    statistics.py machine.py report.py table.py    figures, and how they are told
"""
