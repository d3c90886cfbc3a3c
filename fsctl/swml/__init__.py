"""The language: documents, variables, expressions, and what runs them. No sockets, no threads, no clock."""
