"""Sounds: what a document may play, the files and voices behind it, and where recordings lie."""
