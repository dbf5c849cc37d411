"""The stage of the front page: a sandbox for each visitor, what is seen of it, and the attacks."""
