"""``python -m launchers.doctor.ray_probe``: reaches Ray as a sweep would, runs one task, prints the nodes as JSON.

A process of its own, because Ray can wait for minutes for a cluster that does not answer, and leaves threads behind.
"""

import json
import sys

from launchers.cluster import ray_cluster

TASK_LIMIT_S = 40.0


def main() -> None:
    """Print ``{"ray": version, "nodes": [...]}`` as the last line on stdout."""
    with ray_cluster(lambda text: None) as nodes:
        import ray

        # Without a core of its own, so that it runs on a cluster that is busy too.
        answer = ray.get(ray.remote(num_cpus=0)(lambda: 42).remote(), timeout=TASK_LIMIT_S)
        assert answer == 42
        kept = ("NodeManagerAddress", "Alive", "Resources", "Labels")
        told = [{key: node.get(key) for key in kept} for node in nodes]
    # Outside, because what is printed while Ray is there goes to its log.
    sys.stdout.write(json.dumps({"ray": ray.__version__, "nodes": told}, default=str) + "\n")


if __name__ == "__main__":
    main()
