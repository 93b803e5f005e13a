# SPDX-License-Identifier: Apache-2.0
"""Whether connections leave TCP while a suite runs: the DMBs that appear in the fabric.

Connections of tests are too short for `dibsock ss` to be asked in time.
"""
import ctypes
import os
import select
import struct
import threading

import stage

IN_CREATE, IN_NONBLOCK, IN_CLOEXEC = 0x100, 0o4000, 0o2000000
EVENT = struct.Struct("iIII")  # then the name


class Witness:
    def __init__(self, fabric):
        self.watch = stage.LIBC.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        added = stage.LIBC.inotify_add_watch(self.watch, os.fsencode(fabric),
                                             ctypes.c_uint32(IN_CREATE))
        stage.require(added >= 0, "the fabric cannot be watched")
        self.count = 0
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.follow)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.is_over.set()
        self.thread.join()
        os.close(self.watch)

    def follow(self):
        while not self.is_over.is_set():
            if select.select([self.watch], [], [], 0.2)[0]:
                self.take(os.read(self.watch, 1 << 16))

    def take(self, events):
        while events:
            size = EVENT.unpack_from(events)[3]
            name = events[EVENT.size:EVENT.size + size].rstrip(b"\0")
            self.count += name.endswith(b".dmb")
            events = events[EVENT.size + size:]
