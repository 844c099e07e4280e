"""Programs whose start-up and memory are measured: each says ``ready`` and waits to be ended."""
