"""Todos: what the robot of that name fetches, kept as its source last showed it."""
