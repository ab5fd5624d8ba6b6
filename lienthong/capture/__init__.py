"""Capture: notification (log or outbox) plus reading, for many sources in one process."""
