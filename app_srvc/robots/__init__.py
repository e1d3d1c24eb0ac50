"""Robots: named pollers that turn what a source shows into messages, one cycle after another."""
