"""Vendors' services for developers and tests: one World, spoken to in each vendor's own protocol. Never imports `server`."""
