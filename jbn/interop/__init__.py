"""Models of other libraries, and plain functions, as models that sweeps can train."""
