"""Attacks without end on the service, each in a process of its own, all of the user who runs this.

Usage: attacks.py SOCKET IMAGE. Says "attacking" once all have begun, and stops when its standard input ends.
"""

import array
import json
import os
import resource
import signal
import socket
import sys
import time

path, image = sys.argv[1], sys.argv[2]
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
INTERFACE = 'io.cfsmountd.MountDelegation'


def call(method, **parameters):
    return json.dumps({'method': f'{INTERFACE}.{method}', 'parameters': parameters}).encode() + b'\0'


def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


def receive(connection):
    """One reply; what comes with it is closed."""
    got = b''
    while not got.endswith(b'\0'):
        bytes_, fds, _, _ = socket.recv_fds(connection, 65536, 16)
        for fd in fds:
            os.close(fd)
        if not bytes_:
            raise ConnectionError('ended')
        got += bytes_
    return got


def crowd():
    """As many connections as it gets; those that are ended are made anew."""
    held = [connect() for _ in range(128)]
    while True:
        time.sleep(0.05)
        held.pop(0).close()
        held.append(connect())


def slow():
    """A byte each second on many connections."""
    held = [connect() for _ in range(32)]
    while True:
        for connection in held:
            connection.sendall(b'{')
        time.sleep(1)


def deaf():
    """Calls without end whose replies nobody reads."""
    connection = connect()
    while True:
        connection.sendall(call('Describe') * 100)


def endless():
    """Messages that never end."""
    connection = connect()
    while True:
        connection.sendall(b'x' * 65536)


def deep():
    """JSON that is nested deeper than anybody reads."""
    connection = connect()
    while True:
        connection.sendall(b'{"method":"' + b'[' * 10000 + b'\0')
        receive(connection)


def descriptors():
    """As many descriptors as a message takes, in calls that fail."""
    connection = connect()
    fds = array.array('i', [os.pipe()[0]] * 253)
    while True:
        socket.send_fds(connection, [call('Mount', image={'fileDescriptor': 99999})], fds)
        receive(connection)


def lingering():
    """Sockets whose closing waits for whoever never reads."""
    listener = socket.create_server(('127.0.0.1', 0))
    connection = connect()
    while True:
        sender = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, array.array('i', [1, 5]).tobytes())
        sender.setblocking(False)
        try:
            while sender.send(b'x' * 65536):
                pass
        except BlockingIOError:
            pass
        socket.send_fds(connection, [call('Describe')], [sender.fileno()])
        sender.close()
        receive(connection)
        time.sleep(0.1)
        peer.close()


def mounts():
    """Mounts without end, by name."""
    connection = connect()
    while True:
        connection.sendall(call('Mount', image={'name': image}))
        receive(connection)


def unsigned():
    """Large memfds that nobody signed."""
    memfd = os.memfd_create('image', os.MFD_ALLOW_SEALING)
    os.write(memfd, os.urandom(1 << 20))
    os.ftruncate(memfd, 16 << 20)
    import fcntl

    fcntl.fcntl(memfd, 1033, 2 | 4 | 8)
    connection = connect()
    while True:
        socket.send_fds(connection, [call('Mount', image={'fileDescriptor': 0})], [memfd])
        receive(connection)


def again(attack):
    """Whoever is thrown out comes again."""
    while True:
        try:
            attack()
        except OSError:
            time.sleep(0.01)


attacks = [crowd, slow, deaf, endless, deep, descriptors, lingering, mounts, unsigned]
children = []
for attack in attacks:
    child = os.fork()
    if child == 0:
        again(attack)
    children.append(child)
print('attacking', ' '.join(attack.__name__ for attack in attacks), flush=True)
sys.stdin.read()
for child in children:
    os.kill(child, signal.SIGKILL)
for child in children:
    os.waitpid(child, 0)
