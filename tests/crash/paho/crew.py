"""Several sessions in one process and one thread. The first line of standard input is the plan, each
further one something to do; each line of standard output is something that has happened."""

import json
import os
import select
import sys
import time

from reader import Reader
from session import Session


def report(what, **fields):
    """One write per line: what was reported is in the pipe even if this process is killed now."""
    line = json.dumps({"at": time.monotonic_ns() // 1000, "what": what, **fields})
    os.write(1, line.encode() + b"\n")


class Crew:
    def __init__(self, plan):
        self.plan = plan
        self.sessions = {client["client"]: Session(client, plan, report) for client in plan["clients"]}
        self.readers = []

    def do(self, order):
        match order.pop("do"):
            case "up":
                for session in self.sessions.values():
                    session.up()
            case "look":
                self.readers.append(Reader(self.plan, report))
            case action:
                getattr(self.sessions[order.pop("client")], action)(**order)

    def serve(self):
        """Until standard input ends."""
        rest = b""
        while True:
            self.readers = [reader for reader in self.readers if reader.socket() is not None]
            everybody = [*self.sessions.values(), *self.readers]
            for one in everybody:
                one.step()
            there = {one.socket(): one for one in everybody if one.socket() is not None}
            writing = [socket for socket, one in there.items() if one.paho.want_write()]
            # Attempts to connect are due that often; a connection wakes it at once.
            readable, writable, _ = select.select([0, *there], writing, [], 0.1)
            for socket in writable:
                there[socket].flush()
            for socket in readable:
                if socket == 0:
                    orders = os.read(0, 65536)
                    if not orders:
                        return
                    *lines, rest = (rest + orders).split(b"\n")
                    for line in lines:
                        self.do(json.loads(line))
                elif there[socket].socket() is socket:
                    there[socket].read()
            for one in everybody:
                one.misc()


def first_line():
    """Read byte by byte: what follows is not the plan's."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit("no plan")
        line += byte
    return line


if __name__ == "__main__":
    Crew(json.loads(first_line())).serve()
