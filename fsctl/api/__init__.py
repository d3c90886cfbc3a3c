"""The HTTP side for operators and customers: metrics, health, recordings."""
