"""One call: its states, its controls, what it tells the world. Pure: knows no FreeSWITCH, no socket, no clock."""
