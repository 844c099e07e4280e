"""What runs inside the measured processes: one file a contestant, each the best shape we know."""
