"""One sender at a time per destination."""

import subprocess
import sys
from pathlib import Path

from connector.sync.turn import Turn


def test_the_second_waits_until_the_first_gives_it_back(tmp_path: Path) -> None:
    first, second = Turn(tmp_path, "klaviyo"), Turn(tmp_path, "klaviyo")
    assert first.take()
    assert first.take(), "it stays ours"
    assert not second.take()
    first.give_back()
    assert second.take()
    assert Turn(tmp_path, "hubspot").take(), "another destination is another turn"
    second.give_back()


def test_a_holder_that_is_killed_holds_it_no_longer(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from connector.sync.turn import Turn
turn = Turn(Path({str(tmp_path)!r}), "klaviyo")
print(turn.take(), flush=True)
input()
"""
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    ours = Turn(tmp_path, "klaviyo")
    assert not ours.take()
    process.kill()
    process.wait()
    assert ours.take()
    ours.give_back()
