"""A FreeSWITCH on a real socket for people without one: the demonstration, the tests and the load benchmark use it.

It behaves like FreeSWITCH 1.10.12 towards an outbound event socket application in ``async full`` mode, held against
recorded conversations, and towards those who connect to its own port and originate calls. Left out: SIP and RTP
themselves, conferences and queues, speech recognition, fax, video, the other leg of a bridge as a channel of its own,
the sync mode, XML events.
"""

from fsctl.simulator.call import Said, SimulatedCall
from fsctl.simulator.caller import Caller, Party
from fsctl.simulator.connectors import Outcome, Scripted, WebSockets
from fsctl.simulator.nasty import Drop, Nasty
from fsctl.simulator.switch import Switch

__all__ = [
    "Caller",
    "Drop",
    "Nasty",
    "Outcome",
    "Party",
    "Said",
    "Scripted",
    "SimulatedCall",
    "Switch",
    "WebSockets",
]
