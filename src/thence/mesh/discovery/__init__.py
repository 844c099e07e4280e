"""Who is there: the contract, one machine, one process."""
