"""Model sources and container files."""
