"""A database server that starts together with us is waited for; one that never comes is not waited for for ever."""

import socket
import threading
import time

from quantahr.store.schema import wait_for


def test_a_server_that_comes_a_moment_later_is_waited_for() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        host, port = server.getsockname()

        def listen() -> None:
            time.sleep(0.4)
            server.listen()

        late = threading.Thread(target=listen)
        late.start()
        assert wait_for(host, port, 30)
        late.join()


def test_a_server_that_never_comes_is_given_up() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, so that nobody else listens there; and does not listen
        host, port = nobody.getsockname()
        assert not wait_for(host, port, 0.3)
