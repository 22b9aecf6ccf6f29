"""``python -m tests.benchmarks``: measure Podium against its peers, side by side, and write ``results/``.

python -m tests.benchmarks                          # everything, about an hour on two cores
python -m tests.benchmarks --only packing decoding  # some parts
python -m tests.benchmarks --repeats 3              # fewer turns
"""

import argparse
import logging

from tests.benchmarks import (
    aiperf,
    constraints,
    decision,
    defects,
    end_to_end,
    engine,
    equal_trials,
    guided,
    preferences,
)

REPEATED = {
    "end_to_end": end_to_end.run,
    "end_to_end_variants": end_to_end.run_variants,
    "constraints": constraints.run,
    "guided": guided.run,
    "dpo": preferences.run_agreement,
    "dpo_speed": preferences.run_speed,
}
SEEDED = {  # a second turn would say the same
    "aiperf": aiperf.run,
    "decision": decision.run,
    "defects": defects.run,
    "equal_trials": equal_trials.run,
}
PARTS = (*engine.PARTS, *REPEATED, *SEEDED)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts alone")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each peer (default: 5)")
    arguments = parser.parse_args()
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for part in arguments.only:
        print(f"{part} …", flush=True)
        if part in REPEATED:
            REPEATED[part](arguments.repeats)
        elif part in SEEDED:
            SEEDED[part]()
        else:
            engine.run(part, arguments.repeats)


if __name__ == "__main__":
    main()
