"""Speed of Valetkey as ratios against named references, all measured in one run on one machine."""
