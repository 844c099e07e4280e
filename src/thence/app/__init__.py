"""What users write against: services, nodes, settings."""
