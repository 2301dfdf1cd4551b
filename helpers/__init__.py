"""Private training and fairness of medical image classifiers, in seven wings; see each wing's first line."""
