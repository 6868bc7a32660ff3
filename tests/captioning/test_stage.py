"""The stage is light where it only asks a server."""

import subprocess
import sys


def test_asking_a_server_needs_no_torch():
    code = "import sys; from cogvx.captioning import dense, end_to_end, stage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
