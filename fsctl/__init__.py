"""Runs SWML call documents on your own FreeSWITCH."""

__version__ = "0.1.0"
