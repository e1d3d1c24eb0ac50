"""Asynchronous processing without a message bus: accept at once, work in the background, lose nothing."""

__version__ = "0.1.0"
