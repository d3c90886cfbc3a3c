"""The event socket: bytes, the connection, the leg behind it, and the listener that takes calls."""
