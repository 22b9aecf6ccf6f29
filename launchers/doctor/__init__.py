"""``podium doctor``: what of this machine, its services and a sweep's files is as it must be. One file per group."""
