"""The world in memory: one fake per port, kept by the same conformance suite as the adapters."""
