"""Where and when: pools, the Ray Tune driver, the command line."""
