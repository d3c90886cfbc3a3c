"""The language needs neither sockets nor greenlets: anything may run it."""

import subprocess
import sys


def test_the_language_is_a_library_of_its_own():
    program = (
        "import sys; before = set(sys.modules)\n"
        "import fsctl.swml.check, fsctl.swml.choice, fsctl.swml.interpreter, fsctl.swml.scope\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new & {'gevent', 'socket', 'ssl', 'requests', 'structlog', 'quickjs', 'threading'}))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('fsctl.') and 'swml' not in name))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "fsctl.errors fsctl.value"]
