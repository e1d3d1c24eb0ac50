"""The processes that do the work: pools of workers, their housekeeping, and their health."""
