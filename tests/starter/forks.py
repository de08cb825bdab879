"""What the tests of forks and of lazy starters share: scripts that fork, and a server that is not there."""

from __future__ import annotations

from tests.support.programs import finished

NOWHERE = "host=127.0.0.1 port=1"
"""A server that is not there."""

# What the scripts share. A child that takes 20 seconds says where it hangs, and fails.
PROLOGUE = """
import faulthandler, gc, multiprocessing, os, signal, sys, threading, warnings
import psycopg
import pgflow_starter as pgflow
faulthandler.register(signal.SIGALRM, chain=True)
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

@pgflow.job("echo")
def echo(message, ctx):
    return message

def started(**settings):
    quick = {"min_poll_interval": 0.05, "max_poll_interval": 0.1, "notify_throttle": 0, "shutdown_timeout": 5}
    return pgflow.start(sys.argv[1], jobs=[echo], **{**quick, **settings})

def in_child(call):
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    else:
        signal.alarm(20)
        call()
        gc.collect()
        sys.exit(0)

def refused(*calls):
    for call in calls:
        try:
            call()
        except pgflow.ForkedError:
            continue
        raise AssertionError(call)

def works(starter):
    assert starter.client.enqueue(echo, 1).wait(15).status == "completed"
"""


def script(text: str, *arguments: str) -> None:
    """Run it; it must succeed, silently."""
    done = finished("-c", PROLOGUE + text, *arguments)
    assert done.stderr == ""
    assert done.returncode == 0
