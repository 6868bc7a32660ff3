"""The page of a command, as a process of its own, and what a rater's browser would ask it."""

import http.client
import json
import subprocess
import sys


def start_page(folder, *words):
    """Run a command that serves a page in a folder, on a free port; its addresses come as JSON on stdout."""
    command = [sys.executable, "-m", "cogvx", *words, "--port", "0", "--json"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ask_page(url, path, body=None):
    """GET a path of a page, or POST to it; the JSON that comes back."""
    place, _, token = url.removeprefix("http://").partition("/?token=")
    connection = http.client.HTTPConnection(place, timeout=60)
    headers = {"X-Cogvx-Token": token, "Content-Type": "application/json"}
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer
