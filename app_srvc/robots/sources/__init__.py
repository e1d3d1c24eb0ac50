"""Sources: where a robot's records come from."""
