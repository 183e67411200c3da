"""A save is carried out exactly once: under kills, cut replies, races and random histories, judged by the simulator's own log."""
