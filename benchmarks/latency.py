"""Latency at fixed rates: from the instant at which a webhook was due to its acknowledgement and to the platform's
receipt of its contact, beside what people would use instead.

    python -m benchmarks.latency [--rates 10 50 200] [--seconds 6]

Open loop: a webhook is sent when it is due, whether or not the earlier ones were answered, and its time counts from
then, so that waiting is not hidden (benchmarks.pacing). Each is the first order of a person of their own. Everything on
the same two cores, load included; the platform takes 50 ms for an answer, which is not part of a receipt.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from benchmarks import peers
from benchmarks.flow import contenders, journeys
from benchmarks.pacing import at
from benchmarks.platform import platform


def main() -> None:
    """Prints p50 and p99 by rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 50, 200])
    parser.add_argument("--seconds", type=float, default=6)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storecue-benchmark-"))
    print(f"| {'ms':<16} | events/s | acknowledged p50 | p99 | at the platform p50 | p99 |\n|---|---|---|---|---|---|")
    try:
        for name, start in contenders().items():
            with platform() as (address, control), start(folder, address, control) as serving:
                journeys(serving.port, control, 50, 50)  # warm
                for rate in given.rates:
                    acknowledged, told = journeys(serving.port, control, rate, max(50, int(rate * given.seconds)))
                    figures = " | ".join(
                        f"{at(each, share):.1f}" for each in (acknowledged, told) for share in (0.5, 0.99)
                    )
                    print(f"| {name:<16} | {rate:g} | {figures} |", flush=True)
    finally:
        shutil.rmtree(folder)
    print("\n".join(peers.missing()))


if __name__ == "__main__":
    main()
