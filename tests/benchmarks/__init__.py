"""How fast fsctl is, as ratios against a bare greenswitch script in the same run: ``make bench``."""
