# SPDX-License-Identifier: Apache-2.0
"""Whether connections do leave TCP while a suite runs: `dibsock ss`, again and again."""
import json
import subprocess
import threading


class Witness:
    def __init__(self, scene):
        self.scene = scene
        self.seen = self.in_memory = 0
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.is_over.set()
        self.thread.join()

    def look(self):
        while not self.is_over.wait(0.5):
            shown = subprocess.run([self.scene.dibsock, "ss", "--json"], capture_output=True,
                                   text=True, env=self.scene.environment)
            if shown.returncode == 0:
                modes = [end["mode"] for end in json.loads(shown.stdout)]
                self.seen += len(modes)
                self.in_memory += modes.count("SMCD")

    def __str__(self):
        return f"{self.in_memory} of {self.seen} sightings of connections in memory"
